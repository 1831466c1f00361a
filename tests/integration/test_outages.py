"""Runs on Ray whose store or MLflow goes away for a while: they go on, and nothing is lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import ClusterConfig
from mono3d.services.s3_server import S3Server
from mono3d.storage.s3 import ensure_bucket
from mono3d.tracking.tracker import RunIdentity
from mono3d.training.checkpoint import verify
from mono3d.training.launch import launch
from mono3d.training.progress import Progress
from mono3d.training.ray_session import ray_session
from mono3d.training.tracking import tracked_run
from tests.support.s3_proxy import Fault, Harm, S3Proxy, s3_proxy
from tests.support.training import Lines, tiny_config, tiny_parts

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.ray,
    pytest.mark.services,
    pytest.mark.timeout(600),
    # Ray Data, which Ray Train sets up, warns of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

STEPS = 24
FOR_EVER = 100_000
MOMENTS = {"start": (0, 8), "middle": (8, 16), "end": (16, FOR_EVER)}
"""Steps between which MLflow is away."""


def config_at(storage: str) -> RunConfig:
    return tiny_config(
        cluster__storage=storage,
        cluster__workers=1,
        checkpoint__every_steps=4,
        checkpoint__metric="val/score",
        train__log_every_steps=1,
        tracking__experiment="outages",
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Of this module, to be killed."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def store(server: S3Server) -> Iterator[S3Proxy]:
    """Between the runs and the server."""
    address = server.start()
    with s3_proxy(address.url) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment(proxy.url).items():
            patch.setenv(name, value)
        ensure_bucket("s3://outages")
        yield proxy


@pytest.fixture(scope="module")
def cluster(store: S3Proxy) -> Iterator[None]:
    """Started where the store is known."""
    with ray_session(ClusterConfig(workers=1), has_dashboard=False):
        yield


@pytest.mark.parametrize(
    ("path", "count", "said"),
    [
        ("checkpoints/step_00000008/", 2, "cannot write s3://outages/"),
        ("checkpoint_manager_snapshot.json", 2, "the store went away from Ray's controller"),
    ],
    ids=["in the middle of a checkpoint", "while Ray writes its own record"],
)
def test_the_store_is_killed_and_comes_back(
    path: str, count: int, said: str, server: S3Server, store: S3Proxy, cluster: None
) -> None:
    name = f"killed-{count}-{path[:11]}".replace("_", "-")
    seen: list[str] = []

    def start_again() -> None:
        address = server.start()  # where ports are free
        store.upstream = f"{address.host}:{address.port}"

    def kill(method: str, asked: str) -> None:
        if method == "PUT" and asked.startswith(f"/outages/{name}/{path}"):
            seen.append(asked)
            if len(seen) == count:
                server.stop()
                back.start()

    back = threading.Timer(8, start_again)
    store.before = kill
    sink = Lines()
    try:
        result = launch(config_at("s3://outages"), name=name, sink=sink, build=tiny_parts)
    finally:
        store.before = lambda method, path: None
        back.join()
    assert [line for line in sink.lines if line.startswith(said)]
    assert [line for line in sink.lines if "trying again in" in line]
    assert not [line for line in sink.lines if line.startswith("worker")]  # that one failed
    assert result.steps == STEPS
    for checkpoint in (result.last_checkpoint, result.best_checkpoint):
        verify(checkpoint)
    assert sink.steps[-1] == STEPS


class Outage(Lines):
    """MLflow is away between two steps."""

    def __init__(self, proxy: S3Proxy, harm: Harm, *, since: int, until: int) -> None:
        super().__init__()
        self._proxy, self._harm, self._since, self._until = proxy, harm, since, until
        self._look(0)

    def update(self, progress: Progress) -> None:
        """Each step."""
        super().update(progress)
        self._look(progress.step)

    def _look(self, step: int) -> None:
        is_away = self._since <= step < self._until
        if is_away != (self._proxy.fault is not None):
            self._proxy.fault = Fault(self._harm, FOR_EVER) if is_away else None


@pytest.mark.parametrize("harm", ["closed", "503"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_mlflow_is_away(
    moment: str,
    harm: Harm,
    stack: dict[str, str],
    cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    since, until = MOMENTS[moment]
    config = config_at(str(tmp_path / "runs"))
    identity = RunIdentity(name=f"{harm}-{moment}", params={})
    with s3_proxy(stack["MLFLOW_TRACKING_URI"]) as mlflow:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
        sink = Outage(mlflow, harm, since=since, until=until)
        with tracked_run(config, identity, folder=tmp_path / "record") as tracker:
            result = launch(config, name="run", tracker=tracker, sink=sink, build=tiny_parts)
            assert result.steps == STEPS
            verify(result.last_checkpoint)
        assert mlflow.harmed
        # The same command sends what waits since the end.
        if until == FOR_EVER:
            mlflow.fault = None
            with tracked_run(config, identity, folder=tmp_path / "record") as tracker:
                launch(config, name="run", tracker=tracker, build=tiny_parts)
    client = MlflowClient(stack["MLFLOW_TRACKING_URI"])
    assert tracker.run_id is not None
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    recorded = [entry.step for entry in client.get_metric_history(tracker.run_id, "loss/total")]
    assert recorded == list(range(1, STEPS + 1))
