"""Runs and their records, with everything but the training itself."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.storage import patience
from mono3d.storage.location import upload_directory
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.tracker import Tracker
from mono3d.training import tracked
from mono3d.training.checkpoint_files import MANIFEST
from mono3d.training.progress import NoDisplay
from mono3d.training.run_record import RunResult
from mono3d.training.tracked import train_tracked
from tests.support.kitti_folder import write_kitti
from tests.support.s3_proxy import Fault, s3_proxy
from tests.support.training import save_untrained

pytestmark = pytest.mark.services

METRICS = {"val/kitti_Car_bev_moderate": 4.5, "val/centers_depth_abs_rel": 0.25}
EXPERIMENT = "tracked-tests"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run whose training is replaced by an untrained checkpoint and one evaluation."""
    monkeypatch.chdir(tmp_path)

    def launch(config: RunConfig, *, name: str, tracker: Tracker, **_: Any) -> RunResult:
        checkpoint = save_untrained(config, tmp_path / name / "checkpoint", metrics=METRICS)
        tracker.log_metrics([MetricRecord(step=4, time_ms=1, metrics=METRICS)])
        return RunResult(
            name=name,
            steps=4,
            metrics=METRICS,
            best_checkpoint=str(checkpoint),
            last_checkpoint=str(checkpoint),
            run_id=tracker.run_id,
            initial_metrics={"val/centers_depth_abs_rel": 0.5},
        )

    monkeypatch.setattr(tracked, "launch", launch)
    shrunk = (
        "input.image_height_px=64", "input.image_width_px=192", "model.backbone.width=16",
        "model.channels=8", f"tracking.experiment={EXPERIMENT}",
    )  # fmt: skip
    return load_recipe("kitti_overfit", [f"data.root={write_kitti(tmp_path / 'kitti')}", *shrunk])


def record_of(run_id: str | None) -> Run:
    return MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).get_run(str(run_id))


def train(config: RunConfig, name: str, **settings: Any) -> RunResult:
    exports = {"exports_network": False, **settings}
    result, assessment = train_tracked(config, name=name, sink=NoDisplay(), **exports)
    assert assessment.metrics["centers_depth_abs_rel"] == 0.25
    return result


def test_a_record_says_what_the_run_is_and_how_good(
    config: RunConfig, stack_environ: Mapping[str, str]
) -> None:
    run = record_of(train(config, "described", recipe="kitti_overfit", tags={"fold": "3"}).run_id)
    assert (
        run.data.tags.items() >= {"recipe": "kitti_overfit", "mining": "gmm", "fold": "3"}.items()
    )
    note = run.data.tags["mlflow.note.content"]
    assert "**depth error 0.25, val/kitti_Car_bev_moderate 4.5** at step 0" in note
    assert "untrained depth error 0.5" in note
    assert "kitti/all: 3 frames" in note
    assert f"mono3d evaluate {run.info.run_id}" in note
    assert run.data.metrics["core/depth_error"] == 0.25
    # Training and validation are on the same frames here; MLflow keeps a data set of a run once.
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["kitti/all"]
    assert not run.outputs.model_outputs


def test_runs_of_two_threads_have_records_of_their_own(
    config: RunConfig, stack_environ: Mapping[str, str]
) -> None:
    parent = train(config, "parent").run_id
    assert parent is not None

    def child(number: int) -> RunResult:
        return train(config, f"child-{number}", parent=parent, tags={"fold": str(number)})

    with ThreadPoolExecutor(max_workers=2) as threads:
        children = [record_of(result.run_id) for result in threads.map(child, (1, 2))]
    for number, run in enumerate(children, start=1):
        assert (run.info.run_name, run.info.status) == (f"child-{number}", "FINISHED")
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.data.tags["fold"] == str(number)
        assert run.data.metrics["core/depth_error"] == 0.25
        assert f"child-{number}/checkpoint" in run.data.tags["mlflow.note.content"]
    assert record_of(parent).info.status == "FINISHED"


def test_the_network_is_on_the_record_unless_that_is_not_wanted(
    config: RunConfig, stack_environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[str] = []
    monkeypatch.setattr(tracked, "record_network", lambda *_: recorded.append("network"))
    train(config, "bare", exports_network=False)
    assert recorded == []
    train(config, "whole", exports_network=True)
    assert recorded == ["network"]


def test_a_store_that_is_away_after_the_training_is_waited_for(
    config: RunConfig, stack_environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "WAITS_S", (0.02,))
    train_to_disk, stored = tracked.launch, "s3://mono3d/tracked/waits"
    with s3_proxy(stack_environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)

        def launch(config: RunConfig, **arguments: Any) -> RunResult:
            result = train_to_disk(config, **arguments)
            upload_directory(Path(result.best_checkpoint), stored, last=MANIFEST)
            proxy.fault = Fault("503", 4)
            return replace(result, best_checkpoint=stored)

        monkeypatch.setattr(tracked, "launch", launch)
        result = train(config, "waits")
    assert proxy.harmed == 4
    assert record_of(result.run_id).info.status == "FINISHED"


def test_bad_data_end_the_record_as_failed(
    config: RunConfig, stack_environ: Mapping[str, str]
) -> None:
    lost = config.model_copy(update={"data": config.data.model_copy(update={"root": "not-there"})})
    with pytest.raises(Exception, match="not-there"):
        train(lost, "lost")
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'lost'")
    assert run.info.status == "FAILED"


def test_a_name_that_cannot_be_a_folder_leaves_no_record(
    config: RunConfig, stack_environ: Mapping[str, str]
) -> None:
    with pytest.raises(ConfigError, match="run name"):
        train(config, "a/b")


def test_without_a_server_a_run_is_trained_all_the_same(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert train(config, "untracked").run_id is None
