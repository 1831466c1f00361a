"""Which code and which process made a run."""

import getpass
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

_GIT_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that drives a run."""

    host: str
    pid: int
    started_s: float
    """Unix time at which the process started: a process id is used again, this pair is not."""
    job_id: str
    """Submission id of the Ray job, empty outside one."""

    def to_tags(self) -> dict[str, str]:
        """As run tags."""
        tags = {
            "mono3d.host": self.host,
            "mono3d.pid": str(self.pid),
            "mono3d.process_started": f"{self.started_s:.2f}",
        }
        return {**tags, "mono3d.job_id": self.job_id} if self.job_id else tags


def owner_from_tags(tags: Mapping[str, str]) -> Owner | None:
    """The owner written by `Owner.to_tags`, None where the tags name none."""
    try:
        return Owner(
            host=tags["mono3d.host"],
            pid=int(tags["mono3d.pid"]),
            started_s=float(tags["mono3d.process_started"]),
            job_id=tags.get("mono3d.job_id", ""),
        )
    except (KeyError, ValueError):
        return None


def current_owner() -> Owner:
    """This process."""
    process = psutil.Process()
    return Owner(
        host=socket.gethostname(),
        pid=process.pid,
        started_s=process.create_time(),
        job_id=_ray_job_id(),
    )


def is_process_alive(owner: Owner) -> bool:
    """Whether the owner's process still runs; one on another host is taken to be alive."""
    if owner.host != socket.gethostname():
        return True
    try:
        started_s = float(psutil.Process(owner.pid).create_time())
    except psutil.NoSuchProcess:
        return False
    return abs(started_s - owner.started_s) < 1.0


def code_tags() -> dict[str, str]:
    """What MLflow shows as source, and who runs it: program, user, version of the package.

    In a git checkout the commit too (`-dirty` where files were changed).
    """
    tags = {
        "mono3d.version": version("mono3d"),
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
    }
    with suppress(KeyError, OSError):  # in a container the user may have no name
        tags["mlflow.user"] = getpass.getuser()
    commit = _git_commit(Path(__file__).resolve())
    return {**tags, "mlflow.source.git.commit": commit} if commit else tags


def _git_commit(file: Path) -> str | None:
    """Commit of the checkout that tracks `file`; a package installed into a checkout has none."""
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(folder), *arguments],  # noqa: S607 (wherever the user has it)
        check=True,
        capture_output=True,
        text=True,
        timeout=_GIT_TIMEOUT_S,
    )
    return answer.stdout.strip()


def _ray_job_id() -> str:
    """The job's own entry point knows its id from this variable only (Ray 2.60)."""
    config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return str(config.get("metadata", {}).get("job_submission_id", ""))
