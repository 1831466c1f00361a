"""Signals that end a program, made to pass through its `finally` blocks."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], object] | int | None

_TERMINATIONS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminations_raised() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt."""
    with _handled(_TERMINATIONS, _exit):
        yield


@contextmanager
def interruptions_ignored() -> Iterator[None]:
    """Inside, Ctrl-C, SIGTERM and SIGHUP are dropped: for a clean-up that must be finished."""
    with _handled((signal.SIGINT, *_TERMINATIONS), signal.SIG_IGN):
        yield


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], handler: _Handler) -> Iterator[None]:
    """Python lets only the main thread set handlers; in others nothing is changed."""
    is_main = threading.current_thread() is threading.main_thread()
    # What is ignored stays so (nohup), and so does a handler that is not Python's.
    unchanged = (signal.SIG_IGN, None)
    ours = [n for n in numbers if is_main and signal.getsignal(n) not in unchanged]
    before = {number: signal.signal(number, handler) for number in ours}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _exit(number: int, frame: FrameType | None) -> None:
    """Exit with the status that shells give to a process ended by this signal."""
    raise SystemExit(128 + number)
