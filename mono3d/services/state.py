"""What is remembered about the services, in `state.json` of their directory."""

import json
from dataclasses import dataclass
from pathlib import Path

from mono3d.errors import ServiceError
from mono3d.services.address import Address
from mono3d.storage.location import write_bytes


@dataclass(frozen=True, kw_only=True)
class StackState:
    """The last addresses of both servers; None for one that was never started."""

    s3: Address | None = None
    mlflow: Address | None = None


def read_state(path: Path) -> StackState:
    """The remembered state, empty if there is none.

    Raises:
        ServiceError: If the file is damaged.
    """
    if not path.exists():
        return StackState()
    try:
        entries = json.loads(path.read_text())
        known = {
            name: Address(host=entry["host"], port=int(entry["port"]))
            for name, entry in entries.items()
        }
        return StackState(**known)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ServiceError(f"{path} is damaged: delete it and start again") from error


def write_state(path: Path, state: StackState, pids: dict[str, int | None]) -> None:
    """Replace the file in one step.

    Process ids and URLs are there for people and other programs: we look both up.
    """
    addresses = {"s3": state.s3, "mlflow": state.mlflow}
    entries = {
        name: {"host": at.host, "port": at.port, "url": at.url, "pid": pids[name]}
        for name, at in addresses.items()
        if at is not None
    }
    write_bytes(path, json.dumps(entries, indent=2).encode())
