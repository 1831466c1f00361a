import threading
import time

import pytest

from mono3d.tracking.shipper import Shipper, root_cause


class Receiver:
    """Fails as often as it is told to, then takes everything."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0
        self.called = threading.Event()

    def __call__(self) -> None:
        self.calls += 1
        self.called.set()
        if self.calls <= self.failures:
            raise ConnectionRefusedError("connection refused")


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_away_and_back_are_said_once_each(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(failures=3)
    shipper = Shipper("the store", receiver)
    shipper.start(wait_s=5.0)

    assert shipper.close(timeout_s=10.0)
    away, back = messages(caplog)
    assert away.startswith("the store is away (connection refused)")
    assert back.startswith("the store is back after")
    assert receiver.calls == 4


def test_work_is_delivered_when_it_comes() -> None:
    receiver = Receiver(failures=0)
    shipper = Shipper("the store", receiver)
    shipper.start(wait_s=5.0)
    receiver.called.clear()
    shipper.wake()

    assert receiver.called.wait(5.0)
    assert shipper.close(timeout_s=5.0)


def test_new_work_does_not_shorten_the_pause_after_a_failure() -> None:
    receiver = Receiver(failures=1000)
    shipper = Shipper("the store", receiver)
    shipper.start(wait_s=5.0)
    for _ in range(20):
        shipper.wake()
        time.sleep(0.01)

    assert receiver.calls == 1
    shipper.close(timeout_s=0.0)


def test_close_gives_up_in_time(caplog: pytest.LogCaptureFixture) -> None:
    shipper = Shipper("the store", Receiver(failures=1000))
    shipper.start(wait_s=5.0)
    start_s = time.monotonic()

    assert not shipper.close(timeout_s=1.0)
    assert 0.9 < time.monotonic() - start_s < 2.0
    assert len(messages(caplog)) == 1


def test_close_waits_no_longer_than_told_for_a_receiver_that_hangs() -> None:
    released = threading.Event()
    shipper = Shipper("the store", lambda: (released.wait(), None)[1])
    shipper.start(wait_s=0.1)
    start_s = time.monotonic()

    assert not shipper.close(timeout_s=0.3)
    assert time.monotonic() - start_s < 1.0
    released.set()


def raise_wrapped() -> None:
    try:
        raise OSError("connection refused\nmore")
    except OSError as error:
        raise RuntimeError("pages of text") from error


def test_root_cause_is_one_line_of_the_innermost_error() -> None:
    with pytest.raises(RuntimeError) as caught:
        raise_wrapped()

    assert root_cause(caught.value) == "connection refused"
    assert root_cause(ValueError()) == "ValueError"
