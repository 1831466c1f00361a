"""The health check of the containers."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from mono3d.services.ports import free_block
from tests.docker.dockerfile import DOCKER


class Answers(BaseHTTPRequestHandler):
    """/good answers 200, everything else 503."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/good" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def web_server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def probe(port: int, *paths: str) -> int:
    command = [sys.executable, str(DOCKER / "probe.py"), str(port), *paths]
    environ = {"http_proxy": "http://127.0.0.1:9"}  # which nobody answers
    return subprocess.run(command, env=environ, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("paths", "is_healthy"), [(["/good"], True), (["/bad"], False), (["/good", "/bad"], False)]
)
def test_a_container_is_healthy_if_all_paths_answer(paths: list[str], is_healthy: bool) -> None:
    with web_server() as port:
        assert (probe(port, *paths) == 0) == is_healthy


def test_a_container_where_nobody_listens_is_not_healthy() -> None:
    assert probe(free_block(1, host="127.0.0.1"), "/good") == 1
