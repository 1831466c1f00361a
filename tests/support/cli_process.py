"""The `mono3d` command as a process of its own, to be killed."""

import os
import subprocess
import sys
from pathlib import Path


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Begin a command in a folder, in a session of its own; its output goes to one pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "mono3d.cli.main", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: "subprocess.Popen[str]", timeout_s: float = 500) -> str:
    """Its output, when it has ended well."""
    output, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, output
    return output
