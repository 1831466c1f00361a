"""A real S3 server behind a proxy: what is asked of it is counted, and answers can be spoilt."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Harm = Literal["slow", "closed", "cut", "silent", "500", "503", "403"]
"""Late answers; connections that end at once, or in the middle of what is sent; no answer;
answers of a server that fails, is busy, or refuses."""

_ERRORS = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}
_LATE_S, _SILENT_S = 0.3, 5.0


@dataclass
class Fault:
    """What happens to requests."""

    harm: Harm
    requests: int
    """So many; then all is well."""
    of: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")


class S3Proxy(ThreadingHTTPServer):
    """Passes requests on to a server."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(endpoint).netloc
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.reads: list[str] = []
        """Paths of the objects asked for."""
        self.listings: list[str] = []
        """Queries of the listings asked for."""
        self.num_to_cut = 0
        """So many objects are sent by half, then the connection ends."""
        self.before: Callable[[str, str], None] = lambda method, path: None
        """Told of each request before it is passed on."""
        self.fault: Fault | None = None
        self.harmed = 0
        """Requests so far."""
        self._lock = threading.Lock()

    def harm(self, method: str) -> Harm | None:
        """What is to happen to a request."""
        with self._lock:
            if self.fault is None or self.fault.requests == 0 or method not in self.fault.of:
                return None
            self.fault.requests -= 1
            self.harmed += 1
            return self.fault.harm

    def handle_error(self, *_: object) -> None:
        """Quiet: clients go away in the middle, and so do we."""


class _Handler(BaseHTTPRequestHandler):
    server: S3Proxy
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        parts = urlsplit(self.path)
        is_listing = "list-type" in parts.query
        if self.command == "GET":
            (self.server.listings if is_listing else self.server.reads).append(
                parts.query if is_listing else parts.path
            )
        harm = self.server.harm(self.command)
        if harm in {"closed", "silent"}:
            time.sleep(_SILENT_S if harm == "silent" else 0)
            self._hang_up()
            return
        if harm == "cut" and (length := self._length()):
            self.rfile.read(length // 2)
            self._hang_up()
            return
        body = self._body()
        if harm in _ERRORS:
            self._refuse(int(harm), _ERRORS[harm])
            return
        if harm == "slow":
            time.sleep(_LATE_S)
        self.server.before(self.command, parts.path)
        answer, content = self._ask(body)
        self._begin(answer, len(content))
        is_cut = harm == "cut"
        if self.command == "GET" and not is_listing and self.server.num_to_cut > 0:
            self.server.num_to_cut -= 1
            is_cut = True
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if is_cut else content)
        if is_cut:
            self._hang_up()

    def _length(self) -> int:
        return int(self.headers.get("Content-Length", "0"))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(self._length())
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        del self.headers["Transfer-Encoding"]  # passed on in one piece
        self.headers["Content-Length"] = str(sum(map(len, chunks)))
        return b"".join(chunks)

    def _ask(self, body: bytes) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection(self.server.upstream)
        connection.request(self.command, self.path, body or None, headers=dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def _begin(self, answer: HTTPResponse, length: int) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        if self.command == "HEAD":
            length = int(answer.getheader("Content-Length", "0"))
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _refuse(self, status: int, code: str) -> None:
        content = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _hang_up(self) -> None:
        """With a reset, as a machine that is gone."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{method}", _Handler._pass)


@contextmanager
def s3_proxy(endpoint: str) -> Iterator[S3Proxy]:
    """A proxy of the server at an endpoint, while it runs."""
    proxy = S3Proxy(endpoint)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
