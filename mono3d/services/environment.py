"""The environment by which boto3, Ray and MLflow clients find the services."""

import os
import shlex
from collections.abc import Mapping

_LOOPBACK = ("127.0.0.1", "localhost")

# A tracking server that is away must cost a training seconds; MLflow's own patience is minutes.
_IMPATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


def client_environment(s3_environment: Mapping[str, str], tracking_url: str) -> dict[str, str]:
    """All variables that a client of both services needs.

    Args:
        s3_environment: The S3 server's own: endpoint, keys, region.
        tracking_url: Address of the MLflow server.
    """
    no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    others = [host for host in no_proxy.split(",") if host and host not in _LOOPBACK]
    return {
        **s3_environment,
        **_IMPATIENCE,
        "MLFLOW_TRACKING_URI": tracking_url,
        "MLFLOW_S3_ENDPOINT_URL": s3_environment["AWS_ENDPOINT_URL"],
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "no_proxy": ",".join([*others, *_LOOPBACK]),
    }


def shell_lines(environment: Mapping[str, str]) -> str:
    """The environment as lines for a POSIX shell."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join(["unset AWS_PROFILE", *exports]) + "\n"
