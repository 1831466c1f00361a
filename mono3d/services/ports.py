"""Free TCP ports that neither Ray nor the kernel hands to someone else.

Ray gives its workers ports 10002 to 19999 and SeaweedFS opens, for each of its ports, a second
one 10000 above. Blocks below start between 21000 and 22763, so both ends stay clear of Ray's
range and of Linux's ephemeral ports (32768 and up).
"""

import random
import socket
from collections.abc import Sequence

from mono3d.errors import ServiceError

GRPC_OFFSET = 10_000
_CANDIDATES = range(21_000, 22_764)


def free_block(
    size: int, *, offsets: Sequence[int] = (0,), preferred: int | None = None, host: str
) -> int:
    """The first of `size` consecutive ports that are free, as are those `offsets` above.

    Another process may take one before it is used: whoever calls must be ready to try again.

    Args:
        size: Number of consecutive ports.
        offsets: Distances at which the same number of ports must be free as well.
        preferred: The answer if it is free, so that addresses survive a restart.
        host: The address the ports will be bound to.

    Raises:
        ServiceError: If no block is free.
    """
    shuffled = random.sample(_CANDIDATES, len(_CANDIDATES))
    for first in shuffled if preferred is None else [preferred, *shuffled]:
        ports = (first + index + offset for offset in offsets for index in range(size))
        if all(is_free(port, host) for port in ports):
            return first
    raise ServiceError(f"no {size} free ports from {_CANDIDATES[0]} on: stop what holds them")


def is_free(port: int, host: str) -> bool:
    """Whether a server could bind this port now."""
    with socket.socket() as probe:
        # As servers do: a connection that is still closing does not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
