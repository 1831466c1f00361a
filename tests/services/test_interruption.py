"""Signals that end a program pass through its clean-up."""

import os
import signal

import pytest

from mono3d.services.interruption import interruptions_ignored, terminations_raised


def _end_self(number: signal.Signals, cleaned: list[bool]) -> None:
    with terminations_raised():
        try:
            os.kill(os.getpid(), number)
        finally:
            cleaned.append(True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_runs_the_finally_blocks(number: signal.Signals) -> None:
    # Tests may run where it is ignored, as under nohup.
    before = signal.signal(number, signal.SIG_DFL)
    cleaned: list[bool] = []
    try:
        with pytest.raises(SystemExit) as caught:
            _end_self(number, cleaned)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert caught.value.code == 128 + number
    assert cleaned == [True]


def test_clean_up_is_not_interrupted() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptions_ignored():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminations_raised():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
