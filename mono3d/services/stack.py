"""The S3 server and the MLflow server together, as one thing with one state directory.

The directory holds all there is: `s3/` (objects, credentials, log), `mlflow/` (database, log),
`state.json` (process ids, ports, URLs) and `env.sh`. Started again on it, the same runs and
objects are back, at the same addresses where these are free.
"""

import fcntl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mono3d.errors import ServiceError
from mono3d.services.address import DEFAULT_DIRECTORY, LOOPBACK, Address
from mono3d.services.environment import client_environment, shell_lines
from mono3d.services.files import write_private
from mono3d.services.interruption import interruptions_ignored, terminations_raised
from mono3d.services.mlflow_server import MlflowServer
from mono3d.services.s3_server import S3Server
from mono3d.services.state import StackState, read_state, write_state

Name = Literal["s3", "mlflow"]
_STOP_ORDER: tuple[Name, ...] = ("mlflow", "s3")  # MLflow may still be writing artifacts


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """What one server does at the moment."""

    name: Name
    is_up: bool
    pid: int | None
    address: Address | None
    log: Path

    @property
    def condition(self) -> str:
        """The same in words: up, not answering, or down."""
        if self.is_up:
            return "up"
        return "down" if self.pid is None else "not answering"


class Stack:
    """Both servers of one state directory.

    Args:
        directory: Made if missing, private to the user. Several processes may use it: starting
            and stopping take turns.
    """

    def __init__(self, directory: Path = DEFAULT_DIRECTORY) -> None:
        self.directory = directory.resolve()
        self._s3 = S3Server(self.directory / "s3")
        self._mlflow = MlflowServer(self.directory / "mlflow")
        self._state_path = self.directory / "state.json"

    @property
    def env_path(self) -> Path:
        """The file by which a shell gets the environment."""
        return self.directory / "env.sh"

    def start(self, *, host: str | None = None, port: int | None = None) -> None:
        """Start what does not run; what runs is kept.

        Args:
            host: Address of the MLflow server; loopback unless given. MLflow asks nobody for a
                password: any other address opens it to whoever can reach this machine.
            port: Port of the MLflow server; the last one, or a free one, unless given.

        Raises:
            ServiceError: If a server does not come up, or runs at another address than demanded.
        """
        with self._turn():
            last = read_state(self._state_path)
            s3 = last.s3 if last.s3 and self._s3.is_up(last.s3) else self._s3.start(last.s3)
            self._remember(replace(last, s3=s3))
            if last.mlflow and s3 == last.s3 and self._mlflow.is_up(last.mlflow):
                mlflow = _demanded(last.mlflow, host, port)
            else:
                mlflow = self._mlflow.start(
                    self._s3.environment(s3.url),
                    host=host or LOOPBACK,
                    port=port,
                    preferred_port=last.mlflow.port if last.mlflow else None,
                )
            self._remember(StackState(s3=s3, mlflow=mlflow))
            write_private(self.env_path, shell_lines(self.environment()))

    def stop(self, names: tuple[Name, ...] = _STOP_ORDER) -> list[Name]:
        """End servers, also those that a killed command left behind.

        Returns:
            Names of those that ran.
        """
        with self._turn():
            servers: dict[Name, S3Server | MlflowServer] = {"mlflow": self._mlflow, "s3": self._s3}
            ended = [name for name in names if servers[name].stop()]
            self._remember(read_state(self._state_path))
        return ended

    def status(self) -> list[ServiceStatus]:
        """What each server does now; nothing is believed only because a file says so."""
        last = read_state(self._state_path)
        return [
            ServiceStatus(
                name="s3",
                is_up=last.s3 is not None and self._s3.is_up(last.s3),
                pid=self._s3.pid(),
                address=last.s3,
                log=self._s3.log,
            ),
            ServiceStatus(
                name="mlflow",
                is_up=last.mlflow is not None and self._mlflow.is_up(last.mlflow),
                pid=self._mlflow.pid(),
                address=last.mlflow,
                log=self._mlflow.log,
            ),
        ]

    def environment(self) -> dict[str, str]:
        """The variables by which Ray, MLflow clients and boto3 find the services.

        Raises:
            ServiceError: If the services were never started.
        """
        last = read_state(self._state_path)
        if last.s3 is None or last.mlflow is None:
            raise ServiceError(f"no services in {self.directory}: run `mono3d services up`")
        return client_environment(self._s3.environment(last.s3.url), last.mlflow.url)

    def _remember(self, state: StackState) -> None:
        pids = {"s3": self._s3.pid(), "mlflow": self._mlflow.pid()}
        write_state(self._state_path, state, pids)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other processes from starting or stopping the same services."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def running_stack(
    directory: Path = DEFAULT_DIRECTORY, *, meanwhile: Callable[[], object] | None = None
) -> Iterator[Stack]:
    """Services that are up inside the block.

    What was up before is left alone; what was started here is stopped at the end, be it reached by
    an exception, Ctrl-C, SIGTERM or a closed terminal. Only `kill -9` of this process leaves the
    servers behind, for `mono3d services down` or the next start to find.

    Args:
        directory: State directory of the services.
        meanwhile: Work to do before the block, beside the start of the services.

    Yields:
        The stack; its `environment()` is what clients need.

    Raises:
        ServiceError: If a server does not come up.
    """
    stack = Stack(directory)
    found = {status.name for status in stack.status() if status.is_up}
    ours = tuple(name for name in _STOP_ORDER if name not in found)
    with terminations_raised():
        try:
            with ThreadPoolExecutor(1) as pool:
                starting = pool.submit(stack.start)
                if meanwhile is not None:
                    meanwhile()
                starting.result()
            yield stack
        finally:
            with interruptions_ignored():
                stack.stop(ours)


def _demanded(running: Address, host: str | None, port: int | None) -> Address:
    """The running server's address, if it is the one asked for."""
    if host not in {None, running.host} or port not in {None, running.port}:
        raise ServiceError(
            f"MLflow already runs at {running.url}: run `mono3d services down` first to move it"
        )
    return running
