from collections.abc import Sequence

import pytest

from mono3d.tracking.mlflow_server import (
    MlflowServer,
    RejectedError,
    clip_param,
    send_the_acceptable,
)


@pytest.mark.parametrize("length", [0, 5999, 6000])
def test_param_within_the_limit_is_left_alone(length: int) -> None:
    assert clip_param("x" * length) == "x" * length


def test_longer_param_is_clipped_to_the_limit_and_shows_it() -> None:
    assert clip_param("x" * 6001) == "x" * 5997 + "..."


def test_name_of_the_server_has_no_password() -> None:
    assert MlflowServer("http://me:hunter2@host:5000").name == "http://***@host:5000"


@pytest.mark.parametrize("bad", [set(), {0}, {9}, {3, 4}, set(range(10))])
def test_everything_but_the_culprits_is_sent_once_and_in_order(bad: set[int]) -> None:
    sent: list[int] = []
    rejected: list[int] = []

    def send(part: Sequence[int]) -> None:
        if bad & set(part):
            raise RejectedError("bad")
        sent.extend(part)

    send_the_acceptable(range(10), send, lambda item, _: rejected.append(item))
    assert sent == [number for number in range(10) if number not in bad]
    assert rejected == sorted(bad)
