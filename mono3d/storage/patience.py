"""Waiting for a store that is away: what was done so far is worth a minute."""

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from mono3d.errors import StorageAwayError

T = TypeVar("T")

WAITS_S: Sequence[float] = (1, 2, 4, 8, 16, 32)
_SPREAD = 0.25
"""So that the runs of a cluster do not come back all at once."""


def patiently(act: Callable[[], T], say: Callable[[str], None]) -> T:
    """Do something that may be done again, again while the store is away.

    Args:
        act: What to do; after a failure it starts from its beginning.
        say: Told in a line of each failure, and when it is tried again.

    Raises:
        StorageAwayError: The store is still away after a minute.
        StorageError: It is there and refuses.
    """
    for wait_s in WAITS_S:
        try:
            return act()
        except StorageAwayError as error:
            spread_s = wait_s * random.uniform(1 - _SPREAD, 1 + _SPREAD)
            say(f"{error}; trying again in {spread_s:.0f} s")
            time.sleep(spread_s)
    return act()
