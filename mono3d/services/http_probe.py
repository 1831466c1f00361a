"""Ask a web server one short question."""

import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_MAX_BYTES = 4096


def fetch_text(url: str, timeout_s: float) -> str:
    """The beginning of what a GET request answers.

    A proxy named in the environment is not asked for addresses of this machine.

    Raises:
        OSError: If nobody answers in time, or with a status other than 2xx.
    """
    is_local = urlsplit(url).hostname in _LOOPBACK
    handlers = [urllib.request.ProxyHandler({})] if is_local else []
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            text: str = answer.read(_MAX_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"it answers HTTP {error.code}") from error
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from error
    except Exception as error:  # http.client raises its own kinds at what is not HTTP
        raise OSError(f"it does not speak HTTP ({type(error).__name__})") from error
    return text


def can_connect(host: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether somebody accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True
