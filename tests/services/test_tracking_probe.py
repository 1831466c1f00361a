"""Whether the address of a tracking server is one."""

import socket
import time

import pytest

from mono3d.errors import ServiceError
from mono3d.services.tracking_probe import check_tracking_server
from tests.support.web_server import web_server


@pytest.mark.services
def test_version_of_a_real_server(stack: dict[str, str]) -> None:
    assert check_tracking_server(stack["MLFLOW_TRACKING_URI"]).startswith("3.")


@pytest.mark.services
def test_the_s3_server_is_not_a_tracking_server(stack: dict[str, str]) -> None:
    with pytest.raises(ServiceError, match=r"HTTP 4\d\d; start it with"):
        check_tracking_server(stack["AWS_ENDPOINT_URL"])


def test_another_web_server_is_told_apart() -> None:
    with web_server() as url, pytest.raises(ServiceError, match="is not an MLflow server"):
        check_tracking_server(url)


def test_nobody_there_is_said_at_once_without_the_password() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(ServiceError, match="refused; start it") as caught:
            check_tracking_server(f"http://me:secret@127.0.0.1:{port}")
    assert time.monotonic() - start < 2
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_does_not_speak_http_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(ServiceError, match="timed out"):
            check_tracking_server(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - start < 6


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "127.0.0.1:5000", "http://"])
def test_what_is_no_address(uri: str) -> None:
    with pytest.raises(ServiceError, match="not the address of an MLflow server"):
        check_tracking_server(uri)
