"""Where a server listens."""

from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
_ALL_INTERFACES = {"0.0.0.0", "::"}


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
