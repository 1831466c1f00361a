"""What is asked of a real S3 server, counted, and answers of it cut short."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class S3Proxy(ThreadingHTTPServer):
    """Passes GET and HEAD requests on to a server."""

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


class _Handler(BaseHTTPRequestHandler):
    server: S3Proxy

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        is_listing = "list-type" in parts.query
        if is_listing:
            self.server.listings.append(parts.query)
        else:
            self.server.reads.append(parts.path)
        answer, body = self._ask()
        self._begin(answer, len(body))
        if not is_listing and self.server.num_to_cut > 0:
            self.server.num_to_cut -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        answer, _ = self._ask()
        self._begin(answer, int(answer.getheader("Content-Length", "0")))

    def _ask(self) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection(self.server.upstream)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body

    def _begin(self, answer: HTTPResponse, length: int) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def s3_proxy(endpoint: str) -> Iterator[S3Proxy]:
    """A proxy of the server at an endpoint, while it runs."""
    proxy = S3Proxy(endpoint)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
