import logging
import shutil
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mono3d.tracking.mlflow_delivery import MlflowDelivery
from mono3d.tracking.mlflow_server import MlflowServer
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.tracker import RunIdentity
from tests.support.mlflow_process import MlflowProcess

pytestmark = pytest.mark.services


@pytest.fixture
def delivery(
    mlflow_server: MlflowProcess, tmp_path: Path, request: pytest.FixtureRequest
) -> MlflowDelivery:
    return MlflowDelivery(
        MlflowServer(mlflow_server.uri),
        RunIdentity(name=request.node.name, params={}),
        experiment="delivery",
        spool=tmp_path / "spool" / "metrics.jsonl",
    )


def record(step: int) -> MetricRecord:
    return MetricRecord(step=step, time_ms=1_700_000_000_000 + step, metrics={"loss": 1.0})


def sent_steps(delivery: MlflowDelivery, server: MlflowProcess) -> list[int]:
    assert delivery.run is not None
    history = MlflowClient(server.uri).get_metric_history(delivery.run.run_id, "loss")
    return sorted(metric.step for metric in history)


def test_what_was_delivered_leaves_memory_and_disk(
    delivery: MlflowDelivery, mlflow_server: MlflowProcess, tmp_path: Path
) -> None:
    delivery.add([record(1), record(2)])
    with delivery.outbox.post("tags", {"a": "b"}):
        pass
    assert delivery.num_due == 2
    delivery.deliver()

    assert delivery.num_due == 0
    assert delivery.outbox.pending() == []
    assert (tmp_path / "spool" / "metrics.jsonl").read_bytes() == b""
    assert sent_steps(delivery, mlflow_server) == [1, 2]


def test_lost_disk_costs_no_metric(
    delivery: MlflowDelivery,
    mlflow_server: MlflowProcess,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    delivery.add([record(1)])
    shutil.rmtree(tmp_path / "spool")
    delivery.add([record(2)])
    delivery.add([record(3)])
    delivery.deliver()

    assert sent_steps(delivery, mlflow_server) == [1, 2, 3]
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1
    assert "kept in memory only" in said[0]


def test_metrics_may_be_added_during_delivery(
    delivery: MlflowDelivery, mlflow_server: MlflowProcess
) -> None:
    done = threading.Event()

    def add_all() -> None:
        for step in range(3000):
            delivery.add([record(step)])
        done.set()

    adding = threading.Thread(target=add_all)
    adding.start()
    while not done.is_set():
        delivery.deliver()
    adding.join()
    delivery.deliver()

    assert sent_steps(delivery, mlflow_server) == list(range(3000))


def test_parcel_of_an_unknown_kind_blocks_nothing(
    delivery: MlflowDelivery, mlflow_server: MlflowProcess, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("hologram", "tags"):
        with delivery.outbox.post(kind, {"a": "b"}):
            pass
    delivery.deliver()

    assert delivery.outbox.pending() == []
    assert "rejects hologram" in caplog.text
    assert delivery.run is not None
    assert MlflowClient(mlflow_server.uri).get_run(delivery.run.run_id).data.tags["a"] == "b"
