from types import SimpleNamespace

import pytest

from mono3d.errors import ConfigError, StorageError
from mono3d.training.failure_callback import FailureCallback, first_line, root_of


class WrappedError(Exception):
    """As Ray hands over what a worker raised."""

    def __init__(self, root: Exception) -> None:
        super().__init__("a page of traceback")
        self._base_exc = root


class Lines:
    """A mailbox that is not on a cluster."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.put = SimpleNamespace(remote=self.lines.append)


def test_a_crash_is_said_and_left_to_ray() -> None:
    mailbox = Lines()
    failures = {0: WrappedError(RuntimeError("out of memory\nat line 3")), 2: ValueError()}
    FailureCallback(mailbox).after_exception(None, failures)
    assert mailbox.lines == [
        "worker 0 failed: RuntimeError: out of memory",
        "worker 2 failed: ValueError",
    ]


def test_a_store_that_is_away_may_come_back() -> None:
    mailbox = Lines()
    FailureCallback(mailbox).after_exception(None, {1: WrappedError(StorageError("away"))})
    assert mailbox.lines == ["worker 1 failed: StorageError: away"]


def test_what_the_user_must_mend_ends_the_run() -> None:
    failures = {0: RuntimeError("peer is gone"), 1: WrappedError(ConfigError("seed=-1: no"))}
    with pytest.raises(ConfigError, match="seed=-1: no"):
        FailureCallback(Lines()).after_exception(None, failures)


def test_the_root_of_a_failed_health_check() -> None:
    died = RuntimeError("the actor died")
    check = RuntimeError("a worker health check failed")
    check.health_check_failure = died  # type: ignore[attr-defined]
    assert root_of(check) is died
    assert first_line(root_of(check)) == "RuntimeError: the actor died"
