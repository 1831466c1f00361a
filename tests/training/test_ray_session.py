import os
import socket
import time

import pytest
import ray

from mono3d.config.training_sections import ClusterConfig
from mono3d.errors import ConfigError, ServiceError
from mono3d.training.ray_session import _without_credentials, places, ray_session


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there_is_said_at_once(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    started_s = time.monotonic()
    with (
        pytest.raises(ServiceError, match=f"^Ray at {address} cannot be used: .*refused; correct"),
        ray_session(ClusterConfig(), has_dashboard=False),
    ):
        pytest.fail("there is no cluster")
    assert time.monotonic() - started_s < 10


def test_what_mlflow_needs_is_hidden_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with _without_credentials():
        assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "secret"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_gpus_that_are_not_there_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    cluster = ClusterConfig(workers=2, gpus_per_worker=100)
    lacking = r"^cluster\.gpus_per_worker=100: 2 workers need 200 GPUs, there are \d+$"
    with pytest.raises(ConfigError, match=lacking), ray_session(cluster, has_dashboard=False):
        pytest.fail("no machine has so many")
    assert not ray.is_initialized()


def test_runs_at_a_time_are_what_every_resource_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has = {"CPU": 16.0, "GPU": 2.0, "memory": 3.5e9}
    monkeypatch.setattr("ray.cluster_resources", lambda: has)
    assert places(ClusterConfig(workers=2)) == 8
    assert places(ClusterConfig(workers=2), memory_bytes=10**9) == 3
    assert places(ClusterConfig(workers=1, gpus_per_worker=0.5), memory_bytes=10**9) == 3
    assert places(ClusterConfig(workers=1, gpus_per_worker=1), memory_bytes=10**8) == 2
    assert places(ClusterConfig(workers=32)) == 1  # it may grow
