"""A study on Ray with S3 and MLflow: side by side, nested, killed and gone on with."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from tests.support.cli_process import finished, start

pytestmark = [pytest.mark.ray]

VARIANTS = """
about: Does mining pay?
baseline: none
least: {val/nuscenes_car_ap: 0.2}
variants:
  none: {about: No mining., set: {mining.kind: none}}
  gmm: {about: Mining., set: {mining.kind: gmm, mining.warmup_epochs: 0, mining.ramp_epochs: 0}}
"""
SHRUNK = (
    "input.image_height_px=64", "input.image_width_px=128", "model.backbone.width=16",
    "model.channels=8", "train.epochs=1", "train.epoch_frames=24", "train.batch_size=4",
    "train.log_every_steps=1", "tracking.max_figures=0", "cluster.storage=s3://mono3d/studies",
)  # fmt: skip
RUNS = ["gmm-seed0", "gmm-seed1", "none-seed0", "none-seed1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with data and variants."""
    folder = tmp_path_factory.mktemp("study")
    config = SyntheticConfig(
        image_size=(128, 72), train_scenes=4, val_scenes=1, samples_per_scene=1, seed=3
    )
    write_nuscenes(folder / "data", config, num_processes=1)
    (folder / "variants.yaml").write_text(VARIANTS)
    return folder


def begin(folder: Path, *options: str) -> "subprocess.Popen[str]":
    return start(
        folder, "study", "mining_study", "--variants", "variants.yaml", "--seeds", "0,1",
        "--name", "tiny", "data.root=data", *SHRUNK, *options,
    )  # fmt: skip


def known(results: Path) -> dict[str, dict[str, object]]:
    if not results.exists():
        return {}
    cells = json.loads(results.read_text())["cells"]
    return {f"{cell['variant']}-seed{cell['seed']}": cell for cell in cells}


@pytest.mark.chaos
def test_a_killed_study_goes_on_and_is_one_nested_record(
    folder: Path, stack_environ: dict[str, str]
) -> None:
    results = folder / "runs" / "tiny" / "results.json"
    process = begin(folder)
    deadline = time.monotonic() + 300
    while not known(results) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = known(results)
    assert 0 < len(before) < len(RUNS)

    output = finished(begin(folder))
    after = known(results)
    assert sorted(after) == RUNS
    for name, cell in before.items():
        assert after[name] == cell  # not run again
        assert f"{name}: val/centers_depth_abs_rel" in output
    assert output.count("known before") == len(before)
    assert "not judged, since the baseline does not work" in output

    client = MlflowClient(stack_environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("mono3d")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.study = 'tiny'")
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run is not parent]
    names = sorted(str(run.info.run_name).rpartition("-")[0] for run in children)
    assert names == [f"tiny-{name}" for name in RUNS]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {(c.data.tags["variant"], c.data.tags["mining"]) for c in children} == {
        ("none", "none"),
        ("gmm", "gmm"),
    }
    files = {file.path for file in client.list_artifacts(parent.info.run_id, "study")}
    assert {"study/report.md", "study/results.json", "study/differences.png"} <= files
    (comparison,) = json.loads(results.read_text())["comparison"].values()
    assert parent.data.metrics["difference/gmm"] == pytest.approx(
        comparison[0]["mean"], rel=1e-4, abs=1e-6
    )
    assert str(after["gmm-seed1"]["checkpoint"]).startswith("s3://mono3d/studies/tiny-gmm-seed1-")

    # Nothing is left to do; the report alone needs neither data nor servers.
    report = finished(begin(folder, "--report", "data.root=elsewhere"))
    assert f"results  {results.relative_to(folder)}" in report


@pytest.mark.slow
def test_without_ray_the_same_runs_say_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    output = finished(
        begin(folder, "--local", "--json", "local.json", "cluster.storage=local", "--name", "local")
    )
    assert "report   runs/local/report.md" in output
    alone, on_ray = known(folder / "local.json"), known(folder / "runs/tiny/results.json")
    assert sorted(alone) == RUNS
    for name, cell in on_ray.items():
        assert alone[name]["metrics"] == pytest.approx(cell["metrics"], rel=1e-3)
        assert alone[name]["identity"] == cell["identity"]
