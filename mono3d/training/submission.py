"""A command of mono3d as a job on a Ray cluster, by Ray's own client."""

import asyncio
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import aiohttp
import requests
import yaml
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from mono3d.errors import ConfigError, ServiceAwayError, ServiceError
from mono3d.tracking.redact import is_secret_name

_ADDRESS = "RAY_API_SERVER_ADDRESS"
"""Ray's variable, which its client reads before it looks at the address that it is given."""
_CODE = "/mono3d/"
"""As the shipped runtime environment leaves it out."""
_STOPPED = 130
"""As shells say of what a signal ended."""
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class JobOrder:
    """What is to run, and what comes with it."""

    command: Sequence[str]
    """Of mono3d, without its name."""
    working_dir: Path
    """Uploaded; the job starts in it."""
    runtime_env: Path | None = None
    """YAML file of Ray's: what of the folder stays here, which variables are set there."""
    uploads_code: bool = False
    """Whether the folder's own mono3d comes too, in place of the one that is installed there."""
    submission_id: str | None = None
    """Names the job; None lets Ray find one."""
    num_cpus: float = 0
    """That Ray sets aside for the command itself, which is then on a node that has them: with 0 it
    is on the head."""


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """What came of a job."""

    status: Literal["SUCCEEDED", "FAILED", "STOPPED"]
    exit_code: int
    """Of the command where it has ended by itself."""
    message: str
    """Ray's."""


class Jobs:
    """The jobs of a cluster."""

    def __init__(self, address: str) -> None:
        """Connect.

        Args:
            address: URL of the dashboard, such as http://127.0.0.1:8265.

        Raises:
            ServiceError: Nobody answers there, or it does not let us in.
        """
        self.address = address
        with self._explained(), _only_address(address):
            self._client = JobSubmissionClient(address)

    def submit(self, order: JobOrder) -> str:
        """Upload what the job needs and have it begin; returns its id.

        Raises:
            ConfigError: The runtime environment cannot be read, or would show a secret.
            ServiceError: The cluster does not take the job.
        """
        tree = read_runtime_env(order.runtime_env) if order.runtime_env else {}
        tree["working_dir"] = str(order.working_dir)
        if order.uploads_code:
            tree["excludes"] = [name for name in tree.get("excludes", []) if name != _CODE]
        with self._explained():
            return str(
                self._client.submit_job(
                    entrypoint=shlex.join(["mono3d", *order.command]),
                    runtime_env=tree,
                    submission_id=order.submission_id,
                    entrypoint_num_cpus=order.num_cpus or None,
                )
            )

    def follow(self, job: str, show: Callable[[str], None]) -> JobEnd:
        """Show what a job writes, until it is over.

        Raises:
            ServiceError: The cluster is no more to be reached; the job may well go on.
        """
        with self._explained():
            asyncio.run(self._tail(job, show))
            while not (details := self._client.get_job_info(job)).status.is_terminal():
                time.sleep(_LOOK_EVERY_S)  # its output has ended, the rest of it soon
        code = details.driver_exit_code
        if details.status == JobStatus.SUCCEEDED:
            code = 0
        elif details.status == JobStatus.STOPPED:
            code = _STOPPED
        status = cast("Literal['SUCCEEDED', 'FAILED', 'STOPPED']", details.status.value)
        # Ray's has the end of the output too, which was shown already.
        message = (details.message or "").partition("\n")[0].partition(", last available logs")[0]
        return JobEnd(status=status, exit_code=code or int(code is None), message=message)

    async def _tail(self, job: str, show: Callable[[str], None]) -> None:
        async for lines in self._client.tail_job_logs(job):
            show(lines)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """In a line what Ray's client says in paragraphs."""
        where = f"Ray's job server at {self.address}"
        try:
            yield
        except AuthenticationError as error:
            raise ServiceError(
                f"{where}: {str(error).splitlines()[0]}; set RAY_AUTH_MODE=token, and the token in "
                "RAY_AUTH_TOKEN or ~/.ray/auth_token"
            ) from error
        except (ConnectionError, requests.RequestException, aiohttp.ClientError) as error:
            raise ServiceAwayError(
                f"{where}: does not answer; correct --address, or open the way to it"
            ) from error
        except (RuntimeError, ValueError) as error:
            raise ServiceError(f"{where}: {_last_line(error)}") from error


def read_runtime_env(path: Path) -> dict[str, Any]:
    """Ray's runtime environment from a file.

    Raises:
        ConfigError: It cannot be read, is no mapping, or sets a variable that is a secret by its
            name: Ray shows these to everyone who may see its dashboard.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--runtime-env {path}: cannot be read ({reason})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"--runtime-env {path}: must be a mapping, such as env_vars: {{}}")
    variables = tree.get("env_vars") or {}
    secret = [name for name in variables if is_secret_name(str(name))]
    if isinstance(variables, Mapping) and secret:
        raise ConfigError(
            f"--runtime-env {path}: env_vars.{secret[0]}: must not be here, since Ray's dashboard "
            "shows it; put it into the environment of `ray start`"
        )
    return tree


@contextmanager
def _only_address(address: str) -> Iterator[None]:
    """Ray's client would take RAY_ADDRESS, where that is set, before its argument."""
    before = os.environ.get(_ADDRESS)
    os.environ[_ADDRESS] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ADDRESS]
        else:
            os.environ[_ADDRESS] = before


def _last_line(error: Exception) -> str:
    """The server answers with a traceback, whose last line has the reason."""
    lines = [line.strip(" .") for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)
