"""A thread that repeats a delivery until it succeeds."""

import logging
import threading
import time
from collections.abc import Callable

from mono3d.tracking.redact import redact

_logger = logging.getLogger(__name__)

_BACK_OFF_DOUBLINGS = 5
_CLOSING_BACK_OFF_S = 0.5


class Shipper:
    """Runs `deliver` in a daemon thread whenever there is work.

    `deliver` hands over everything that is due, and may be called again after it raised. After a
    failure it is tried again with pauses of 2, 4, ... 32 s; one log line says that the receiver
    is away, another that it is back.
    """

    def __init__(self, receiver: str, deliver: Callable[[], None]) -> None:
        self._receiver = receiver
        self._deliver = deliver
        self._away_since_s: float | None = None
        self._work = threading.Event()
        self._tried = threading.Event()
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._has_delivered_all = False
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self, wait_s: float) -> None:
        """Start, and wait at most `wait_s` for the end of the first attempt."""
        self._thread.start()
        self._tried.wait(wait_s)

    def wake(self) -> None:
        """Say that there is work; during a pause after a failure this changes nothing."""
        self._work.set()

    def close(self, timeout_s: float) -> bool:
        """Deliver what is due, for at most `timeout_s`; whether that succeeded."""
        self._closing.set()
        self._work.set()
        self._thread.join(timeout_s)
        self._given_up.set()
        return self._has_delivered_all

    def _run(self) -> None:
        failures = 0
        while not self._given_up.is_set():
            is_last = self._closing.is_set()
            failures = 0 if self._attempt() else failures + 1
            self._tried.set()
            if is_last and failures == 0:
                self._has_delivered_all = True
                return
            self._pause(failures)

    def _attempt(self) -> bool:
        try:
            self._deliver()
        except Exception as error:  # whatever it is, training must not end for it
            self._say_away(error)
            return False
        self._say_back()
        return True

    def _pause(self, failures: int) -> None:
        if failures == 0:
            self._work.wait()
            self._work.clear()
        elif self._closing.is_set():
            self._given_up.wait(_CLOSING_BACK_OFF_S)
        else:
            self._closing.wait(2.0 ** min(failures, _BACK_OFF_DOUBLINGS))

    def _say_away(self, error: Exception) -> None:
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            _logger.warning(
                "%s is away (%s): everything is kept on disk and sent later",
                self._receiver,
                root_cause(error),
            )

    def _say_back(self) -> None:
        if self._away_since_s is not None:
            away_s = time.monotonic() - self._away_since_s
            _logger.warning("%s is back after %.0f s: nothing was lost", self._receiver, away_s)
            self._away_since_s = None


def root_cause(error: BaseException) -> str:
    """First line of the innermost error, redacted; HTTP libraries wrap it in pages of text."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return redact((str(error) or type(error).__name__).splitlines()[0])
