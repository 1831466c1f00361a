"""The folder of this machine in which things that take long to make or fetch are kept."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/mono3d, or ~/.cache/mono3d; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mono3d"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file against all other processes and threads; its death frees it.

    Raises:
        OSError: The file cannot be made.
    """
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
