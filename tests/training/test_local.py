import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.tracking.spool import Spool
from mono3d.training.checkpoint import load_checkpoint, read_metadata
from mono3d.training.local import train_locally
from mono3d.training.parts import Place, RunParts
from mono3d.training.state import TrainState
from tests.support.training import (
    CENTER,
    Lines,
    no_evaluation,
    state_digests,
    tiny_config,
    tiny_parts,
)

STEPS = 8


class KilledError(Exception):
    """Stands for the end of the process."""


def dying_parts(config: RunConfig, place: Place) -> RunParts:
    """Parts whose process ends at the evaluation after the second epoch."""
    parts = tiny_parts(config, place)

    def die_in_epoch_2(state: TrainState) -> dict[str, float]:
        if state.epoch == 2:
            raise KilledError
        return no_evaluation(state)

    return RunParts(**{**vars(parts), "evaluate": die_in_epoch_2})


def short_config(tmp_path: Path, **family: object) -> RunConfig:
    return tiny_config(
        cluster__storage=str(tmp_path / "runs"),
        train__epoch_frames=16,
        checkpoint__every_steps=3,
        checkpoint__metric="val/score",
        **family,
    )


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return short_config(tmp_path)


def test_a_run_leaves_checkpoints_metrics_and_a_result(config: RunConfig, tmp_path: Path) -> None:
    result = train_locally(config, name="a", build=tiny_parts)
    folder = tmp_path / "runs" / "a"
    assert result.steps == STEPS
    assert result.last_checkpoint == str(folder / "checkpoints" / "step_00000008")
    assert set(result.metrics) == {"val/score"}
    assert read_metadata(result.best_checkpoint).metrics
    records = Spool(folder / "metrics.jsonl").read()
    losses = [record.step for record in records if "loss/total" in record.metrics]
    assert losses == [2, 4, 6, 8]
    assert [r.step for r in records if "val/score" in r.metrics] == [4, 8]


@pytest.mark.parametrize("family", [{}, CENTER], ids=["dense", "center"])
def test_the_same_name_goes_on_and_ends_where_an_uninterrupted_run_ends(
    family: dict[str, object], tmp_path: Path
) -> None:
    config = short_config(tmp_path, **family)
    whole = train_locally(config, name="whole", build=tiny_parts)
    with pytest.raises(KilledError):
        train_locally(config, name="killed", build=dying_parts)
    sink = Lines()
    resumed = train_locally(config, name="killed", sink=sink, build=tiny_parts)
    assert sink.lines[0] == "8 steps of 4 frames, peak learning rate 5e-05"
    assert sink.lines[1].startswith("resumed at step 6 from ")
    assert digests(config, resumed.last_checkpoint) == digests(config, whole.last_checkpoint)
    assert resumed.metrics == whole.metrics
    spools = [Spool(tmp_path / "runs" / name / "metrics.jsonl") for name in ("whole", "killed")]
    assert comparable(spools[0]) == comparable(spools[1])


def digests(config: RunConfig, checkpoint: str) -> Mapping[str, str]:
    state = tiny_parts(config, Place()).state
    load_checkpoint(checkpoint, state)
    return state_digests(state)


def comparable(spool: Spool) -> list[tuple[int, float]]:
    """Steps and scores; a loss is a mean since its process started, so it may differ."""
    return [(record.step, record.metrics.get("val/score", 0.0)) for record in spool.read()]


def test_a_finished_run_says_so(config: RunConfig) -> None:
    first = train_locally(config, name="a", build=tiny_parts)
    sink = Lines()
    assert train_locally(config, name="a", sink=sink, build=tiny_parts) == first
    assert sink.lines == [f"run a is finished: {first.last_checkpoint}"]
    assert sink.steps == []


def test_another_config_under_the_same_name_is_refused(config: RunConfig) -> None:
    train_locally(config, name="a", build=tiny_parts)
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(ConfigError, match=r"^seed=1: the run in .*/a has 0; take another run name"):
        train_locally(other, name="a", build=tiny_parts)


def test_a_damaged_checkpoint_is_passed_over(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train_locally(config, name="a", build=dying_parts)
    folder = tmp_path / "runs" / "a"
    (folder / "checkpoints" / "step_00000006" / "ema.safetensors").unlink()
    sink = Lines()
    train_locally(config, name="a", sink=sink, build=tiny_parts)
    assert "step_00000006: ema.safetensors is missing" in sink.lines[1]
    assert sink.lines[2].startswith("resumed at step 4 from ")


@pytest.mark.parametrize(
    ("storage", "name", "message"),
    [
        ("s3://bucket/runs", "a", "needs a folder of this machine"),
        ("/tmp", "../a", "run name '../a': must be"),
        ("/tmp", "", "run name '': must be"),
    ],
)
def test_refuses_places_where_no_run_can_be(storage: str, name: str, message: str) -> None:
    config = tiny_config(cluster__storage=storage)
    with pytest.raises(ConfigError, match=message):
        train_locally(config, name=name, build=tiny_parts)


def test_needs_neither_ray_nor_mlflow_nor_boto3() -> None:
    probe = (
        "import sys; import mono3d.training.local; "
        "print(*{'ray', 'mlflow', 'boto3', 'optuna', 'rich'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=120
    )
    assert answer.stdout.split() == []


def test_the_untrained_network_is_measured_once(config: RunConfig) -> None:
    """Before the first step, and not again by a run that goes on from there."""
    tree = config.model_dump()
    tree["evaluation"]["at_start"] = True
    config = RunConfig.model_validate(tree)
    with pytest.raises(KilledError):
        train_locally(config, name="measured", build=dying_parts)
    result = train_locally(config, name="measured", build=tiny_parts)
    untrained = tiny_parts(config, Place()).state
    assert result.initial_metrics == no_evaluation(untrained)
    assert result.initial_metrics != result.metrics
    spool = Spool(Path(result.last_checkpoint).parents[1] / "metrics.jsonl")
    assert [r.step for r in spool.read() if "val/score" in r.metrics].count(0) == 1


def test_a_new_run_starts_from_another_s_weights_and_a_resumed_one_from_its_own(
    config: RunConfig, tmp_path: Path
) -> None:
    base = train_locally(config, name="base", build=tiny_parts)
    tree = config.model_dump()
    tree["train"]["init_from"] = str(tmp_path / "runs" / "base")
    tree["evaluation"]["at_start"] = True
    tuned = RunConfig.model_validate(tree)
    sink = Lines()
    with pytest.raises(KilledError):
        train_locally(tuned, name="tuned", sink=sink, build=dying_parts)
    assert sink.lines[1].startswith(f"starts from {base.best_checkpoint}: ")
    shutil.rmtree(tmp_path / "runs" / "base")  # nobody needs it any more
    sink = Lines()
    result = train_locally(tuned, name="tuned", sink=sink, build=tiny_parts)
    assert [line.partition(" from ")[0] for line in sink.lines[1:]] == ["resumed at step 6"]
    assert result.initial_metrics == base.metrics, "measured before its first step"
