"""Health check of a container: `python probe.py PORT PATH...` fails unless each answers 200.

Asks this machine alone, and never through a proxy.
"""

import sys
from http.client import HTTPConnection

_TIMEOUT_S = 4


def main(port: str, *paths: str) -> int:
    """Exit status: 0 if every path answers 200."""
    for path in paths:
        connection = HTTPConnection("127.0.0.1", int(port), timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
        except OSError as error:
            print(f"port {port}: {error}")
            return 1
        finally:
            connection.close()
        if status != 200:
            print(f"port {port}: {path} answers {status}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
