"""Runs on Ray that lose a worker or the process that started them, and end as if nothing were."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import ClusterConfig
from mono3d.errors import ConfigError, ServiceError
from mono3d.storage.location import join, read_bytes
from mono3d.storage.s3 import ensure_bucket
from mono3d.tracking.tracker import RunIdentity
from mono3d.training.checkpoint import verify
from mono3d.training.launch import launch
from mono3d.training.parts import Place, RunParts
from mono3d.training.ray_session import ray_session
from mono3d.training.run_record import RunResult
from tests.support.training import Lines, PartsThatDieOnce, tiny_config, tiny_parts

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    # Ray Data, which Ray Train sets up, warns of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

WORKERS = 3
STEPS = 8
RESULTS = ("model.safetensors", "ema.safetensors", "optimiser.safetensors")


def config_at(storage: str, **overrides: object) -> RunConfig:
    """Two epochs of four steps; the kill comes in step 8, the last checkpoint is that of step 6."""
    settings = {
        "cluster__storage": storage,
        "cluster__workers": WORKERS,
        "checkpoint__every_steps": 2,
        "checkpoint__metric": "val/score",
        "train__log_every_steps": 1,
    }
    return tiny_config(**{**settings, **overrides})


@pytest.fixture(scope="module")
def cluster(stack: dict[str, str]) -> Iterator[None]:
    """One Ray for all tests of this module, started where both servers are known."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.items():
            patch.setenv(name, value)
        with ray_session(ClusterConfig(workers=WORKERS), has_dashboard=False):
            yield


@pytest.fixture(scope="module")
def whole(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """An uninterrupted run."""
    storage = tmp_path_factory.mktemp("runs")
    sink = Lines()
    result = launch(config_at(str(storage)), name="whole", sink=sink, build=parts_without_secrets)
    assert sink.steps[-1] == STEPS
    # 3 ranks, 2 micro-batches of 2 frames; the rate is given for 16 frames.
    assert sink.lines == ["8 steps of 12 frames, peak learning rate 0.00015"]
    return result


def parts_without_secrets(config: RunConfig, place: Place) -> RunParts:
    """Built in a worker, which must know the store of the checkpoints and not MLflow."""
    assert "AWS_ENDPOINT_URL" in os.environ
    assert not [name for name in os.environ if name.startswith("MLFLOW")]
    return tiny_parts(config, place)


def written_digests(checkpoint: str) -> dict[str, str]:
    files = json.loads(read_bytes(join(checkpoint, "manifest.json")))["files"]
    return {name: files[name]["sha256"] for name in RESULTS}


@pytest.mark.slow
@pytest.mark.services
def test_a_killed_worker_leaves_no_trace_in_s3_or_mlflow(
    whole: RunResult, stack_environ: dict[str, str], tmp_path: Path
) -> None:
    from mono3d.tracking.mlflow_tracker import MlflowTracker  # workers import this module

    ensure_bucket("s3://mono3d-resume")
    config = config_at("s3://mono3d-resume/runs")
    sink = Lines()
    tracker = MlflowTracker.start(
        RunIdentity(name="killed", params={}),
        experiment="resume",
        tracking_uri=stack_environ["MLFLOW_TRACKING_URI"],
        spool=tmp_path / "spool.jsonl",
    )
    build = PartsThatDieOnce(tmp_path / "died")
    result = launch(config, name="killed", tracker=tracker, sink=sink, build=build)
    tracker.close("FINISHED")
    assert (tmp_path / "died").exists()
    assert any(line.startswith("worker 1 failed") for line in sink.lines)
    assert "resumed at step 6" in sink.lines
    assert result.last_checkpoint == "s3://mono3d-resume/runs/killed/checkpoints/step_00000008"
    assert written_digests(result.last_checkpoint) == written_digests(whole.last_checkpoint)
    verify(result.last_checkpoint)
    assert result.metrics == whole.metrics
    assert result.run_id is not None
    assert steps_in_mlflow(result.run_id, "loss/total") == list(range(1, STEPS + 1))
    assert steps_in_mlflow(result.run_id, "val/score") == [4, 8]


def steps_in_mlflow(run_id: str, metric: str) -> list[int]:
    from mlflow import MlflowClient

    return [entry.step for entry in MlflowClient().get_metric_history(run_id, metric)]


@pytest.mark.slow
def test_only_the_best_and_the_last_checkpoint_are_kept(whole: RunResult) -> None:
    folder = Path(whole.last_checkpoint).parent
    assert sorted(path.name for path in folder.iterdir()) == ["step_00000004", "step_00000008"]
    assert whole.best_checkpoint in {str(path) for path in folder.iterdir()}


@pytest.mark.slow
def test_the_same_name_with_another_config_is_refused(whole: RunResult) -> None:
    storage = str(Path(whole.last_checkpoint).parents[2])
    with pytest.raises(ConfigError, match=r"^optim.lr=0.1: the run in .*/whole has 0.0002; "):
        launch(config_at(storage, optim__lr=0.1), name="whole", build=tiny_parts)


def refuse(config: RunConfig, place: Place) -> RunParts:
    raise ConfigError("data.root=x: no such folder")


@pytest.mark.slow
def test_all_workers_start_from_the_weights_of_another_run(
    whole: RunResult, tmp_path: Path
) -> None:
    """Their averages after one step of a tiny rate are still those of the other run."""
    config = config_at(
        str(tmp_path),
        cluster__workers=2,
        train__init_from=whole.last_checkpoint,
        train__epochs=1,
        train__epoch_frames=8,
        optim__lr=1e-9,
        optim__weight_decay=0.0,
    )
    sink = Lines()
    result = launch(config, name="tuned", sink=sink, build=parts_without_secrets)
    assert sink.lines[0].startswith(f"starts from {whole.last_checkpoint}: ")
    assert result.steps == 1
    weights = [
        load_file(Path(checkpoint) / "ema.safetensors")
        for checkpoint in (whole.last_checkpoint, result.last_checkpoint)
    ]
    learnt = [key for key in weights[0] if not key.endswith(("mean", "var", "num_batches_tracked"))]
    for key in learnt:
        torch.testing.assert_close(weights[0][key], weights[1][key], rtol=0, atol=1e-6)


def fail(config: RunConfig, place: Place) -> RunParts:
    raise RuntimeError("out of luck\nat line 2")


@pytest.mark.slow
def test_what_the_user_must_mend_is_said_at_once(cluster: None, tmp_path: Path) -> None:
    sink = Lines()
    with pytest.raises(ConfigError, match=r"^data.root=x: no such folder$"):
        launch(config_at(str(tmp_path), cluster__workers=1), name="a", sink=sink, build=refuse)
    assert sink.lines == []


@pytest.mark.slow
def test_a_run_that_fails_too_often_ends_in_one_line(cluster: None, tmp_path: Path) -> None:
    config = config_at(str(tmp_path), cluster__max_failures=0, cluster__workers=1)
    with pytest.raises(ServiceError, match="training failed: RuntimeError: out of luck") as caught:
        launch(config, name="a", build=fail)
    assert str(caught.value).endswith("out of luck")
    assert caught.value.__notes__ == ["the same command goes on from the last checkpoint"]


@pytest.mark.chaos
def test_the_same_command_goes_on_after_its_process_was_killed(
    whole: RunResult, tmp_path: Path
) -> None:
    """And passes over the newest checkpoint, which is damaged."""
    command = [sys.executable, "-m", "tests.support.launch_tiny", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    folder = tmp_path / "runs" / "tiny"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as first:
        wait_for_checkpoints(folder, first, count=2)
        kill_driver(first)
    assert not (folder / "result.json").exists()
    newest = max(reported(folder))
    (folder / newest / "ema.safetensors").unlink()

    again = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=400
    )
    passed_over, _, resumed, *_, last = again.stdout.splitlines()
    assert f"{newest}: ema.safetensors is missing" in passed_over
    assert resumed.startswith("resumed at step ")
    assert written_digests(last) == written_digests(whole.last_checkpoint)


def kill_driver(process: subprocess.Popen[str]) -> None:
    """Its Ray notices within seconds; until then the workers go on."""
    descendants = psutil.Process(process.pid).children(recursive=True)
    trainers = [descendant for descendant in descendants if "Train" in descendant.name()]
    assert trainers
    process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(trainers, timeout=60)
    assert not alive


def reported(folder: Path) -> list[str]:
    """Checkpoints in Ray's snapshot, which is none while it is being written."""
    try:
        snapshot = json.loads((folder / "checkpoint_manager_snapshot.json").read_text())
    except (OSError, ValueError):
        return []
    return [entry["checkpoint_dir_name"] for entry in snapshot["checkpoint_results"]]


def wait_for_checkpoints(folder: Path, process: subprocess.Popen[str], *, count: int) -> None:
    deadline_s = time.monotonic() + 300
    while len(reported(folder)) < count and time.monotonic() < deadline_s:
        assert process.poll() is None
        time.sleep(0.05)
    assert len(reported(folder)) >= count
