from types import SimpleNamespace

import pytest
from ray.exceptions import OutOfMemoryError

from mono3d.config.training_sections import TrainConfig
from mono3d.errors import ConfigError, StorageAwayError, StorageError
from mono3d.training.failure_callback import FailureCallback, first_line, root_of, understood


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
    FailureCallback(mailbox, TrainConfig()).after_exception(None, failures)
    assert mailbox.lines == [
        "worker 0 failed: RuntimeError: out of memory",
        "worker 2 failed: ValueError",
    ]


def test_a_store_that_is_away_may_come_back() -> None:
    mailbox = Lines()
    FailureCallback(mailbox, TrainConfig()).after_exception(
        None, {1: WrappedError(StorageAwayError("away"))}
    )
    assert mailbox.lines == ["worker 1 failed: StorageAwayError: away"]


def test_a_store_that_refuses_ends_the_run() -> None:
    failures = {0: WrappedError(StorageError("cannot write: access denied"))}
    with pytest.raises(StorageError, match="access denied"):
        FailureCallback(Lines(), TrainConfig()).after_exception(None, failures)


def test_what_the_user_must_mend_ends_the_run() -> None:
    failures = {0: RuntimeError("peer is gone"), 1: WrappedError(ConfigError("seed=-1: no"))}
    with pytest.raises(ConfigError, match="seed=-1: no"):
        FailureCallback(Lines(), TrainConfig()).after_exception(None, failures)


def test_the_root_of_a_failed_health_check() -> None:
    died = RuntimeError("the actor died")
    check = RuntimeError("a worker health check failed")
    check.health_check_failure = died  # type: ignore[attr-defined]
    assert root_of(check) is died
    assert first_line(root_of(check)) == "RuntimeError: the actor died"


RAYS_WORDS = (  # of Ray 2.60, shortened
    "3 worker(s) were killed due to the node running low on memory. Memory on the node (IP: "
    "192.0.2.2, ID: 22e84f0b) was 10.42GB used / 23.54GB limit (0.435)\nRay killed 3 worker(s)"
)


def test_a_worker_that_ray_ended_for_its_memory_is_not_started_again() -> None:
    died = RuntimeError("a worker health check failed")
    died.health_check_failure = OutOfMemoryError(RAYS_WORDS)  # type: ignore[attr-defined]
    wanted = (
        r"^train.batch_size=8: Ray ended a worker whose machine ran out of memory \(10.42GB of "
        r"23.54GB in use\); give it more memory, or try less: as a new run, train.batch_size=4 "
        r"train.accumulate=2 keeps the 8 frames of a step$"
    )
    with pytest.raises(ConfigError, match=wanted):
        FailureCallback(Lines(), TrainConfig()).after_exception(None, {0: died})


def test_a_single_frame_cannot_be_made_less() -> None:
    said = str(understood(OutOfMemoryError("no numbers"), TrainConfig(batch_size=1)))
    assert said.endswith("ran out of memory; give it more memory, or fewer cluster.workers")
