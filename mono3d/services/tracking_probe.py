"""Whether an MLflow tracking server answers; nothing here imports MLflow."""

import re
from urllib.parse import urlsplit

from mono3d.errors import ServiceError
from mono3d.services.http_probe import fetch_text
from mono3d.storage.s3_errors import without_userinfo

_TIMEOUT_S = 3.0


def check_tracking_server(url: str) -> str:
    """The version of the MLflow server at `url`.

    Args:
        url: Its base address, http or https.

    Raises:
        ServiceError: Within 6 seconds if nobody answers there, or something that is not MLflow.
    """
    parts = urlsplit(url)
    shown = without_userinfo(url)
    remedy = "start it with `mono3d services up` or correct MLFLOW_TRACKING_URI"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ServiceError(f"{shown!r} is not the address of an MLflow server: {remedy}")
    try:
        health = fetch_text(f"{url.rstrip('/')}/health", _TIMEOUT_S)
        version = fetch_text(f"{url.rstrip('/')}/version", _TIMEOUT_S).strip()
    except OSError as error:
        raise ServiceError(f"no MLflow server at {shown}: {error}; {remedy}") from error
    if health.strip() != "OK" or not re.fullmatch(r"\d+\.\d+[\w.]*", version):
        raise ServiceError(f"what answers at {shown} is not an MLflow server; {remedy}")
    return version
