"""Short questions to web servers."""

import socket
import time

import pytest

from mono3d.services.http_probe import can_connect, fetch_text
from tests.support.web_server import web_server


def test_answer_is_read_and_a_proxy_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with web_server(b"hello") as url:
        assert fetch_text(url, 2.0) == "hello"


def test_nobody_there() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        assert not can_connect("127.0.0.1", port)
        with pytest.raises(OSError, match="refused"):
            fetch_text(f"http://127.0.0.1:{port}", 2.0)


def test_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert can_connect("127.0.0.1", port)
        start = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            fetch_text(f"http://127.0.0.1:{port}", 0.3)
        assert time.monotonic() - start < 2
