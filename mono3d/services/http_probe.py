"""Ask a web server one short question."""

import socket
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_MAX_BYTES = 4096


class HttpStatusError(OSError):
    """An answer with another status than success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it answers HTTP {status}")
        self.status = status


def fetch_text(url: str, timeout_s: float) -> str:
    """The beginning of what a GET request answers.

    A proxy named in the environment is not asked for addresses of this machine.

    Raises:
        HttpStatusError: If the answer is not a success.
        OSError: If nobody answers in time, or not in HTTP.
    """
    is_local = urlsplit(url).hostname in _LOOPBACK
    handlers = [urllib.request.ProxyHandler({})] if is_local else []
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            text: str = answer.read(_MAX_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as error:
        error.close()
        raise HttpStatusError(error.code) from error
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from error
    except HTTPException as error:
        raise OSError("it does not speak HTTP") from error
    return text


def can_connect(host: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether somebody accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True
