"""The database of searches: Optuna's own, a SQLite file or a PostgreSQL server."""

import warnings
import weakref
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from mono3d.errors import ConfigError, ServiceError
from mono3d.tracking.redact import redact
from mono3d.training.run_record import RUNS_FOLDER

DEFAULT_DATABASE = f"sqlite:///{RUNS_FOLDER / 'searches.db'}"
VARIABLE = "MONO3D_SEARCHES"
"""Environment variable that names another one; a URL with a password belongs there."""
# Of every trial a line, otherwise; what is worth saying our own display says.
optuna.logging.set_verbosity(optuna.logging.WARNING)

_BUSY_S = 60
"""SQLite has one writer at a time; others wait."""
_CONNECT_S = 10


def open_database(url: str, *, creates: bool) -> RDBStorage:
    """Open a database.

    Args:
        url: `sqlite:///path`, or `postgresql://user:password@host/name`.
        creates: Whether a SQLite file that is not there is made.

    Raises:
        ConfigError: The URL is none, or its driver is not installed.
        ServiceError: It cannot be opened.
    """
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            f"--database {redact(url)}: must be sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from error
    arguments: dict[str, object] = {}
    match address.get_backend_name():
        case "sqlite":
            path = Path(address.database or "")
            if not creates and not path.is_file():
                raise ConfigError(f"{path}: there are no searches; mono3d tune begins one")
            path.parent.mkdir(parents=True, exist_ok=True)
            arguments["connect_args"] = {"timeout": _BUSY_S}
        case "postgresql":
            # SQLAlchemy's own choice of a driver is psycopg2, which is no longer developed.
            address = address.set(drivername="postgresql+psycopg")
            arguments |= {"connect_args": {"connect_timeout": _CONNECT_S}, "pool_pre_ping": True}
        case other:
            raise ConfigError(f"--database {redact(url)}: {other} is neither sqlite nor postgresql")
    name = address.render_as_string(hide_password=True)
    try:
        with warnings.catch_warnings():
            # Of `engine_kwargs`, experimental at Optuna 5.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = RDBStorage(
                address.render_as_string(hide_password=False), engine_kwargs=arguments
            )
    except ImportError as error:
        raise ConfigError(
            f"--database {name}: needs psycopg: pip install 'mono3d[postgresql]'"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ServiceError(f"--database {name}: cannot be opened ({redact(reason)})") from error
    weakref.finalize(storage, storage.engine.dispose)  # Optuna leaves its connections open
    return storage


def search_names(storage: RDBStorage) -> list[str]:
    """Of all searches, the oldest first."""
    return list(optuna.get_all_study_names(storage))
