"""One process at a time works on a search. Its lock goes when the process goes, however it ends."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages import RDBStorage
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from mono3d.errors import ConfigError, DataError, ServiceError

_POSTGRESQL = "postgresql"
_KEY_BYTES = 8
_KEEPALIVES = (
    "tcp_keepalives_idle = 30",
    "tcp_keepalives_interval = 10",
    "tcp_keepalives_count = 3",
)
"""Of the server: a machine that lost its power says no goodbye, and is waited for by the hour."""


@contextmanager
def only_this_process(name: str, storage: RDBStorage) -> Iterator[None]:
    """Hold a search against all other processes that use its database, on whatever machine.

    Raises:
        ConfigError: Another one works on it.
        DataError: The lock beside a SQLite file cannot be written.
        ServiceError: The server does not answer.
    """
    hold = _in_server if storage.engine.dialect.name == _POSTGRESQL else _beside_file
    with hold(name, storage.engine) as is_ours:
        if not is_ours:
            raise ConfigError(f"search {name}: another process works on it")
        yield


@contextmanager
def _in_server(name: str, engine: Engine) -> Iterator[bool]:
    """An advisory lock of PostgreSQL: the server drops it with the connection."""
    digest = hashlib.sha256(f"mono3d search {name}".encode()).digest()
    key = int.from_bytes(digest[:_KEY_BYTES], signed=True)
    try:
        # No transaction, which would stay open as long as the search works.
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        for setting in _KEEPALIVES:
            connection.execute(text(f"SET {setting}"))
        is_ours = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key})
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ServiceError(f"search {name}: cannot be locked ({reason})") from error
    try:
        yield bool(is_ours)
    finally:
        connection.invalidate()  # back in the pool it would keep the lock
        connection.close()


@contextmanager
def _beside_file(name: str, engine: Engine) -> Iterator[bool]:
    file = Path(engine.url.database or "").resolve()
    path = file.with_name(f".{file.name}.{name}.lock")
    try:
        lock = path.open("w")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
