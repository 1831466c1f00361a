"""Against a real server, which is killed, slowed down and started again."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mono3d.errors import ConfigError
from mono3d.tracking.mlflow_tracker import MlflowTracker
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.tracker import RunIdentity, Tracker
from tests.support.mlflow_process import MlflowProcess, SlowLine, free_port, wait_until

pytestmark = pytest.mark.services

EXPERIMENT = "tests"
NOW_MS = 1_700_000_000_000

Start = Callable[..., MlflowTracker]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
def start(mlflow_server: MlflowProcess, tmp_path: Path, name: str) -> Start:
    """Start the tracker of this test's run as one more process of it would."""

    def start_tracker(
        *,
        params: Mapping[str, str] = MappingProxyType({"lr": "0.1"}),
        tracking_uri: str = mlflow_server.uri,
        spool: Path = tmp_path / "metrics.jsonl",
        close_timeout_s: float = 30.0,
    ) -> MlflowTracker:
        return MlflowTracker.start(
            RunIdentity(name=name, params=params),
            experiment=EXPERIMENT,
            tracking_uri=tracking_uri,
            spool=spool,
            close_timeout_s=close_timeout_s,
        )

    return start_tracker


@pytest.fixture
def client(mlflow_server: MlflowProcess) -> MlflowClient:
    return MlflowClient(mlflow_server.uri)


def record(step: int, moment: int = 0, **metrics: float) -> MetricRecord:
    metrics = metrics or {"loss": 1.0 / (step + 1), "lr": 0.1}
    return MetricRecord(step=step, time_ms=NOW_MS + 1000 * moment + step, metrics=metrics)


def steps(client: MlflowClient, run_id: str | None, key: str) -> list[int]:
    return sorted(metric.step for metric in client.get_metric_history(str(run_id), key))


def only_run(client: MlflowClient, name: str) -> Run:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`mono3d.run_name` = '{name}'")
    return run


def artifact(client: MlflowClient, run_id: str | None, path: str, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return Path(client.download_artifacts(str(run_id), path, str(folder))).read_text()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("mono3d")]


def test_run_is_recorded_and_ended(
    start: Start, client: MlflowClient, name: str, tmp_path: Path
) -> None:
    tracker = start(params={"optim.lr": "3e-4", "data.classes": "x" * 7000})
    assert isinstance(tracker, Tracker)
    picture = tmp_path / "picture.txt"
    picture.write_text("a picture")
    tracker.log_metrics([record(step) for step in range(1500)])
    tracker.log_artifact(picture, "figures")
    picture.unlink()
    tracker.set_tags({"stage": "second"})
    tracker.log_checkpoint("s3://bucket/runs/x/epoch_3", {"epoch": 3, "nds": 0.4})
    tracker.close("FINISHED")

    run = only_run(client, name)
    assert run.info.run_id == tracker.run_id
    assert (run.info.status, run.info.run_name) == ("FINISHED", name)
    assert steps(client, tracker.run_id, "loss") == list(range(1500))
    assert run.data.metrics["loss"] == 1.0 / 1500
    assert run.data.params["optim.lr"] == "3e-4"
    assert run.data.params["data.classes"] == "x" * 5997 + "..."
    assert run.data.tags["stage"] == "second"
    assert run.data.tags["mono3d.checkpoint_uri"] == "s3://bucket/runs/x/epoch_3"
    assert run.data.tags["mono3d.pid"] == str(os.getpid())
    assert "mono3d.version" in run.data.tags
    assert artifact(client, tracker.run_id, "figures/picture.txt", tmp_path / "d") == "a picture"
    pointer = json.loads(artifact(client, tracker.run_id, "checkpoint.json", tmp_path / "d"))
    assert pointer == {"uri": "s3://bucket/runs/x/epoch_3", "epoch": 3, "nds": 0.4}
    config = json.loads(artifact(client, tracker.run_id, "config/params.json", tmp_path / "d"))
    assert config == {"optim.lr": "3e-4", "data.classes": "x" * 7000}


def test_what_is_looked_at_first_is_sent_under_its_second_name_too(
    start: Start, client: MlflowClient, name: str
) -> None:
    tracker = start()
    tracker.log_metrics(
        [record(0, **{"val/nuscenes_map": 0.25, "val/centers_depth_abs_rel_0_10m": 0.5})]
    )
    tracker.close("FINISHED")
    assert (
        only_run(client, name).data.metrics.items()
        >= {
            "val/nuscenes_map": 0.25,
            "core/mAP": 0.25,
            "depth_by_range/00_10m": 0.5,
        }.items()
    )


def test_a_later_description_replaces_the_earlier_one(
    start: Start, client: MlflowClient, name: str
) -> None:
    tracker = start()
    tracker.describe("what it is")
    tracker.describe("what it is and **how good**")
    tracker.close("FINISHED")
    note = only_run(client, name).data.tags["mlflow.note.content"]
    assert note == "what it is and **how good**"


def test_a_new_experiment_has_our_view(start: Start, client: MlflowClient) -> None:
    start().close("FINISHED")
    tags = client.get_experiment_by_name(EXPERIMENT).tags
    assert "mlflow.sharedViewState.mono3d" in tags


@pytest.mark.slow
def test_killed_server_costs_no_metric_and_no_duplicate(
    start: Start,
    mlflow_server: MlflowProcess,
    client: MlflowClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracker = start()
    tracker.log_metrics([record(step) for step in range(100)])
    mlflow_server.kill()
    longest_call_s = 0.0
    for step in range(100, 400):
        before_s = time.monotonic()
        tracker.log_metrics([record(step)])
        longest_call_s = max(longest_call_s, time.monotonic() - before_s)
        time.sleep(0.005)
    wait_until(lambda: "is away" in "".join(warnings(caplog)))
    mlflow_server.start()
    tracker.log_metrics([record(step) for step in range(400, 500)])
    tracker.close("FINISHED")

    assert steps(client, tracker.run_id, "loss") == list(range(500))
    assert steps(client, tracker.run_id, "lr") == list(range(500))
    assert longest_call_s < 0.5
    away, back = warnings(caplog)
    assert "is away" in away
    assert "is back" in back


@pytest.fixture
def port() -> int:
    """Where nothing listens until the test calls `connect`."""
    return free_port()


@pytest.fixture
def uri(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def connect(mlflow_server: MlflowProcess, port: int) -> Iterator[Callable[[], SlowLine]]:
    lines: list[SlowLine] = []

    def connect_line() -> SlowLine:
        lines.append(SlowLine(mlflow_server.port, port))
        return lines[-1]

    yield connect_line
    for line in lines:
        line.close()


def test_server_away_at_the_start_gets_everything_when_it_comes(
    start: Start, client: MlflowClient, uri: str, connect: Callable[[], SlowLine]
) -> None:
    before_s = time.monotonic()
    tracker = start(tracking_uri=uri)
    tracker.log_metrics([record(step) for step in range(10)])
    tracker.log_dataset(name="d", digest="0" * 64, source="/data", context="training")
    assert time.monotonic() - before_s < 10.0
    assert tracker.run_id is None
    connect()
    tracker.close("FINISHED")

    assert steps(client, tracker.run_id, "loss") == list(range(10))
    run = client.get_run(str(tracker.run_id))
    assert run.info.status == "FINISHED"
    assert len(run.inputs.dataset_inputs) == 1


def test_closing_is_bounded_and_the_next_process_sends_the_rest(
    start: Start,
    client: MlflowClient,
    caplog: pytest.LogCaptureFixture,
    uri: str,
    connect: Callable[[], SlowLine],
) -> None:
    tracker = start(tracking_uri=uri, close_timeout_s=2.0)
    tracker.log_metrics([record(step) for step in range(7)])
    tracker.set_tags({"stage": "second"})
    before_s = time.monotonic()
    tracker.close("FINISHED")
    assert time.monotonic() - before_s < 4.0
    assert "metric values and 2 files or facts stay in" in warnings(caplog)[-1]

    connect()
    again = start(tracking_uri=uri)
    again.close("FINISHED")
    assert steps(client, again.run_id, "loss") == list(range(7))
    assert client.get_run(str(again.run_id)).data.tags["stage"] == "second"


@pytest.mark.parametrize("delay_s", [0.5, 2.0], ids=["late", "later-than-the-timeout"])
def test_slow_server_does_not_slow_training(
    start: Start,
    client: MlflowClient,
    uri: str,
    connect: Callable[[], SlowLine],
    monkeypatch: pytest.MonkeyPatch,
    delay_s: float,
) -> None:
    line = connect()
    tracker = start(tracking_uri=uri)
    # Answers that come later than this were worked off all the same: what is sent again must
    # not be there twice.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    line.delay_s = delay_s
    before_s = time.monotonic()
    for step in range(50):
        tracker.log_metrics([record(step)])
    assert time.monotonic() - before_s < 1.0
    time.sleep(3.0)
    line.delay_s = 0.0
    tracker.close("FINISHED")

    assert steps(client, tracker.run_id, "loss") == list(range(50))


def test_replay_from_an_older_checkpoint_adds_no_duplicates(
    start: Start, client: MlflowClient, tmp_path: Path
) -> None:
    tracker = start()
    tracker.log_metrics([record(step) for step in range(50)])
    tracker.log_metrics([record(step, moment=1) for step in range(30, 60)])  # worker restarted
    tracker.close("KILLED")

    elsewhere = start(spool=tmp_path / "elsewhere" / "metrics.jsonl")  # driver restarted
    elsewhere.log_metrics([record(step, moment=2) for step in range(20, 80)])
    elsewhere.log_metrics([record(79, val=0.5)])  # another metric of a step already sent
    elsewhere.close("FINISHED")

    assert elsewhere.run_id == tracker.run_id
    assert steps(client, tracker.run_id, "loss") == list(range(80))
    assert steps(client, tracker.run_id, "val") == [79]


@pytest.mark.slow
def test_driver_killed_between_two_steps_resumes_its_run(
    start: Start, mlflow_server: MlflowProcess, client: MlflowClient, tmp_path: Path, name: str
) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mono3d.tracking.mlflow_tracker import MlflowTracker\n"
        "from mono3d.tracking.tracker import MetricRecord, RunIdentity\n"
        "identity = RunIdentity(name=sys.argv[1], params={'lr': '0.1'})\n"
        "tracker = MlflowTracker.start(identity, experiment='tests', tracking_uri=sys.argv[2],\n"
        "                              spool=Path(sys.argv[3]))\n"
        "for step in range(2000):\n"
        f"    time_ms = {NOW_MS} + step\n"
        "    tracker.log_metrics([MetricRecord(step=step, time_ms=time_ms, metrics={'loss': 1})])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    spool = str(tmp_path / "metrics.jsonl")
    done = subprocess.run(
        [sys.executable, "-c", program, name, mlflow_server.uri, spool], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert only_run(client, name).info.status == "RUNNING"

    tracker = start()
    tracker.log_metrics([record(step, moment=1) for step in range(1500, 2010)])
    tracker.close("FINISHED")

    assert tracker.run_id == only_run(client, name).info.run_id
    assert steps(client, tracker.run_id, "loss") == list(range(2010))


def test_resumed_run_keeps_its_params_and_runs_again(
    start: Start, client: MlflowClient, name: str
) -> None:
    start(params={"lr": "0.1"}).close("FAILED")
    again = start(params={"lr": "0.2", "added": "1"})
    resumed = only_run(client, name)
    again.close("FINISHED")

    assert resumed.info.status == "RUNNING"
    assert resumed.data.params == {"lr": "0.1", "added": "1"}
    assert only_run(client, name).info.status == "FINISHED"


def test_what_mlflow_rejects_is_named_and_the_rest_arrives(
    start: Start, client: MlflowClient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = start(params={"a": "", "b[0]": "1", "c": "2"})
    scores = {"loss": 1.0, "acc<1.25": 0.5}
    tracker.log_metrics(
        [MetricRecord(step=step, time_ms=NOW_MS + step, metrics=scores) for step in range(20)]
    )
    tracker.close("FINISHED")

    assert steps(client, tracker.run_id, "loss") == list(range(20))
    assert only_run(client, name).data.params == {"a": "", "c": "2"}
    param, metric = warnings(caplog)
    assert "rejects param b[0]" in param
    assert "rejects metric acc<1.25" in metric


def test_dataset_is_an_input_of_the_run(start: Start, client: MlflowClient) -> None:
    digest = "0123456789abcdef" * 4
    for source in ("s3://key:secret@bucket/nuscenes", "s3://key:secret@bucket/nuscenes"):
        tracker = start()
        tracker.log_dataset(name="nuscenes", digest=digest, source=source, context="training")
        tracker.close("FINISHED")

    (entry,) = client.get_run(str(tracker.run_id)).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("nuscenes", digest[:36])
    assert json.loads(entry.dataset.source) == {"uri": "s3://***@bucket/nuscenes"}
    assert json.loads(entry.dataset.profile) == {"fingerprint": digest}
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]


def test_system_metrics_arrive(
    start: Start, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.5")
    tracker = start()
    time.sleep(2.5)
    tracker.close("FINISHED")

    metrics = client.get_run(str(tracker.run_id)).data.metrics
    assert 0 < metrics["system/system_memory_usage_percentage"] < 100
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100
    assert len(steps(client, tracker.run_id, "system/cpu_utilization_percentage")) >= 2


def test_credentials_reach_neither_server_nor_artifacts(
    start: Start,
    mlflow_server: MlflowProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "environment-hunter2")
    tracker = start(
        params={
            "storage.uri": "s3://key:uri-hunter2@bucket/runs",
            "search.storage": "postgresql://optuna:database-hunter2@db/study",
            "storage.secret_access_key": "config-hunter2",
            "note": "uses environment-hunter2",
        }
    )
    tracker.set_tags({"where": "s3://key:tag-hunter2@bucket"})
    tracker.log_checkpoint("s3://key:checkpoint-hunter2@bucket/x", {"token": "fact-hunter2"})
    tracker.close("FINISHED")

    stored = [path for path in mlflow_server.folder.rglob("*") if path.is_file()]
    assert stored
    assert [path.name for path in stored if b"hunter2" in path.read_bytes()] == []


def test_run_name_that_cannot_be_searched_for_is_an_error(
    mlflow_server: MlflowProcess, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match='run name "it\'s": must not have a quote'):
        MlflowTracker.start(
            RunIdentity(name="it's", params={}),
            experiment=EXPERIMENT,
            tracking_uri=mlflow_server.uri,
            spool=tmp_path / "metrics.jsonl",
        )


def test_artifact_that_is_not_there_is_said_and_training_goes_on(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = start()
    with caplog.at_level(logging.WARNING):
        tracker.log_artifact(tmp_path / "missing.png", "figures")
    tracker.close("FINISHED")

    (warning,) = warnings(caplog)
    assert "missing.png" in warning


def test_a_run_waits_until_the_one_above_it_is_known(
    start: Start,
    client: MlflowClient,
    mlflow_server: MlflowProcess,
    uri: str,
    connect: Callable[[], SlowLine],
    tmp_path: Path,
    name: str,
) -> None:
    """MLflow nests a run when it is created, and the parent may have met a server that was away."""
    above = start(tracking_uri=uri)
    below = MlflowTracker.start(
        RunIdentity(name=f"{name}-below", params={}, parent=above),
        experiment=EXPERIMENT,
        tracking_uri=mlflow_server.uri,
        spool=tmp_path / "below" / "metrics.jsonl",
    )
    assert (above.run_id, below.run_id) == (None, None)
    connect()
    assert above.close("FINISHED")
    assert below.close("FINISHED")
    run = client.get_run(str(below.run_id))
    assert run.data.tags["mlflow.parentRunId"] == above.run_id
