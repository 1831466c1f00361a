"""A disk that can be full: a tmpfs, whose size is changed while it is used. Needs root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_ROOMY = "1200m"
"""SeaweedFS keeps 1 GiB free; nothing of it is taken until it is written to."""


class SmallDisk:
    """A folder on a disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no room, not a byte."""
        disk = os.statvfs(self.folder)
        self._resize(str((disk.f_blocks - disk.f_bfree) * disk.f_frsize))

    def make_room(self) -> None:
        """As much as there was."""
        self._resize(_ROOMY)

    def _resize(self, size: str) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,size={size}", str(self.folder)],
            check=True,
            capture_output=True,
        )


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Mounted at a folder; the test is skipped where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_ROOMY}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here (needs root)")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
