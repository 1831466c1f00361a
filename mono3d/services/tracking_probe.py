"""Whether an MLflow tracking server answers; nothing here imports MLflow."""

import re
from urllib.parse import urlsplit

from mono3d.errors import ServiceError
from mono3d.services.http_probe import HttpStatusError, fetch_text
from mono3d.storage.s3_errors import without_userinfo

UNKNOWN_VERSION = "of unknown version"
"""What a server that tells its version only to known users is said to be."""

_TIMEOUT_S = 3.0
_LOGIN_NEEDED = (401, 403)
_REMEDY = "start it with `mono3d services up` or correct MLFLOW_TRACKING_URI"


def check_tracking_server(url: str) -> str:
    """The version of the MLflow server at `url`.

    Args:
        url: Its base address, http or https; user and password in it are neither sent nor shown.

    Raises:
        ServiceError: Within 6 seconds if nobody answers there, or something that is not MLflow.
    """
    base = without_userinfo(url).rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ServiceError(f"{base!r} is not the address of an MLflow server; {_REMEDY}")
    try:
        health = fetch_text(f"{base}/health", _TIMEOUT_S)
        version = _version(base)
    except OSError as error:
        raise ServiceError(f"no MLflow server at {base}: {error}; {_REMEDY}") from error
    if health.strip() != "OK" or version is None:
        raise ServiceError(f"what answers at {base} is not an MLflow server; {_REMEDY}")
    return version


def _version(base: str) -> str | None:
    """The version it tells; None if what it tells is none."""
    try:
        text = fetch_text(f"{base}/version", _TIMEOUT_S).strip()
    except HttpStatusError as error:
        return UNKNOWN_VERSION if error.status in _LOGIN_NEEDED else None
    return text if re.fullmatch(r"\d+\.\d+[\w.]*", text) else None
