"""Where the servers listen and where they keep what they are given."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT_DIRECTORY = Path("runs/services")
MLFLOW_BUCKET = "mlflow"
RUNS_BUCKET = "mono3d"
RUNS_URI = f"s3://{RUNS_BUCKET}/runs"
"""Where runs and checkpoints go unless told otherwise."""

LOOPBACK = "127.0.0.1"
_ALL_INTERFACES = {"0.0.0.0", "::"}  # noqa: S104 (to be told, nothing is bound to it)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Host and port a server is bound to."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address by which clients on this machine reach it."""
        host = LOOPBACK if self.host in _ALL_INTERFACES else self.host
        return f"http://{host}:{self.port}"
