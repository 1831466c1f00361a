"""The MLflow tracking server: runs in SQLite, artifacts in the embedded S3 server.

MLflow is run as a program and asked over HTTP; nothing here imports it.
"""

import sys
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from mono3d.errors import ServiceError
from mono3d.services import processes
from mono3d.services.address import LOOPBACK, MLFLOW_BUCKET, Address
from mono3d.services.files import make_private
from mono3d.services.ports import free_block, is_free
from mono3d.services.tracking_probe import check_tracking_server

_READY_TIMEOUT_S = 180.0  # the first start makes the database, long on a busy machine
_GRACE_S = 5.0
_ATTEMPTS = 3


class MlflowServer:
    """One MLflow server whose database and log are in one directory.

    Args:
        directory: Absolute; made, and private to the user.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mark = str(directory)
        self.log = directory / "server.log"

    def pid(self) -> int | None:
        """The server's process id, None if it does not run."""
        return next(iter(processes.running(self._mark)), None)

    def is_up(self, address: Address) -> bool:
        """Whether our own server holds the port and answers."""
        if address.port not in processes.listening_ports(self._mark):
            return False
        try:
            check_tracking_server(address.url)
        except ServiceError:
            return False
        return True

    def start(
        self,
        s3_environment: Mapping[str, str],
        *,
        host: str = LOOPBACK,
        port: int | None = None,
        preferred_port: int | None = None,
    ) -> Address:
        """Start the server and wait until it answers.

        Args:
            s3_environment: Variables of the store that holds the artifacts.
            host: Address to listen at.
            port: The port it must have, if any.
            preferred_port: The port to take if it is free and none is demanded.

        Raises:
            ServiceError: If MLflow is missing, `port` is taken, or the server does not come up.
        """
        if find_spec("mlflow") is None:
            raise ServiceError("MLflow is missing: run `pip install 'mlflow>=3.17,<3.18'`")
        make_private(self._directory)
        for _ in range(_ATTEMPTS):
            self.stop()
            address = Address(host=host, port=_choose_port(host, port, preferred_port))
            self._spawn(s3_environment, address)
            if processes.await_ready(self._mark, partial(self.is_up, address), _READY_TIMEOUT_S):
                return address
        self.stop()
        raise ServiceError(
            f"the MLflow server did not start: {processes.last_line(self.log)} (see {self.log})"
        )

    def stop(self) -> bool:
        """End the server and its worker; returns whether it ran."""
        return processes.end(self._mark, grace_s=_GRACE_S)

    def _spawn(self, s3_environment: Mapping[str, str], address: Address) -> None:
        command = [sys.executable, "-P", "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", address.host, "--port", str(address.port)]
        command += ["--backend-store-uri", f"sqlite:///{self._directory / 'mlflow.db'}"]
        command += ["--artifacts-destination", f"s3://{MLFLOW_BUCKET}/artifacts"]
        settings = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 7 processes and 600 MB for nothing
            "MLFLOW_S3_ENDPOINT_URL": s3_environment["AWS_ENDPOINT_URL"],
        }
        inherited = processes.inherited_environ(("AWS_", "MLFLOW_"))
        processes.spawn(
            command,
            mark=self._mark,
            environ={**inherited, **s3_environment, **settings},
            cwd=self._directory,
            log=self.log,
        )


def _choose_port(host: str, port: int | None, preferred: int | None) -> int:
    if port is None:
        return free_block(1, preferred=preferred, host=host)
    if not is_free(port, host):
        raise ServiceError(f"port {port} of {host} is taken: choose another with --port")
    return port
