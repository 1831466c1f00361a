import pytest

from mono3d.tracking.mlflow_server import MlflowServer, clip_param


@pytest.mark.parametrize("length", [0, 5999, 6000])
def test_param_within_the_limit_is_left_alone(length: int) -> None:
    assert clip_param("x" * length) == "x" * length


def test_longer_param_is_clipped_to_the_limit_and_shows_it() -> None:
    assert clip_param("x" * 6001) == "x" * 5997 + "..."


def test_name_of_the_server_has_no_password() -> None:
    assert MlflowServer("http://me:hunter2@host:5000").name == "http://***@host:5000"
