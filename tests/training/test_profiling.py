"""A profile: true of the steps that training takes, and without a trace in the run."""

import gzip
import json
from pathlib import Path

import pytest

from mono3d.config.schema import RunConfig
from mono3d.training.local import train_locally
from mono3d.training.loop import endless_steps
from mono3d.training.parts import Place
from mono3d.training.profiling import WARM_UP_STEPS, profile_locally, profile_steps
from mono3d.training.step_profile import PROFILE_FILES, StepProfile, read_profile
from tests.support.training import state_digests, tiny_config, tiny_parts

STEPS = 2


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return tiny_config(
        cluster__storage=str(tmp_path / "runs"),
        train__epochs=1,
        train__epoch_frames=8,
        checkpoint__metric="val/score",
        train__log_every_steps=1,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def profile(folder: Path) -> StepProfile:
    """Of micro-batches of two frames, two to a step."""
    parts = tiny_parts(tiny_config(train__log_every_steps=1), Place())
    profile_steps(parts, steps=STEPS, workers=1, folder=folder)
    return read_profile(folder)


def test_the_stages_of_a_step_add_up(profile: StepProfile) -> None:
    outermost = [stage for stage in profile.stages if "/" not in stage.name]
    assert [stage.name for stage in outermost] == [
        "load", "to device", "count samples", "forward", "objective", "backward", "optimiser",
        "average weights", "log", "rest",
    ]  # fmt: skip
    assert sum(stage.host_ms for stage in outermost) == pytest.approx(profile.profiled_step_ms)
    assert all(stage.host_ms > 0 for stage in profile.stages)
    assert all(stage.gpu_ms is None for stage in profile.stages)


def test_a_stage_holds_its_parts(profile: StepProfile) -> None:
    stages = {stage.name: stage for stage in profile.stages}
    assert {"forward/trunk/backbone", "forward/trunk/neck", "forward/box_tower"} <= stages.keys()
    for name in ("forward", "forward/trunk"):
        parts = [stages[other] for other in stages if other.rpartition("/")[0] == name]
        assert sum(part.host_ms for part in parts) < stages[name].host_ms
    assert stages["objective/mining"].host_ms < stages["objective"].host_ms
    assert stages["forward"].calls == 2
    assert stages["forward/box_tower"].calls == 2 * 3  # levels
    assert stages["optimiser"].calls == 1


def test_operators_are_what_pytorch_ran(profile: StepProfile) -> None:
    times = [operator.host_ms for operator in profile.operators]
    assert times == sorted(times, reverse=True)
    assert sum(times) < profile.profiled_step_ms
    assert "aten::convolution_backward" in [operator.name for operator in profile.operators[:5]]


def test_speed_and_memory_are_those_without_the_profiler(profile: StepProfile) -> None:
    assert profile.frames_per_step == 4
    assert profile.image_size == (64, 96)
    assert profile.images_per_s == pytest.approx(4 / profile.step_ms * 1e3)
    assert 0.1 < profile.peak_memory_gib < 20
    assert profile.peak_gpu_memory_gib is None


def test_the_trace_holds_stages_and_operators(profile: StepProfile, folder: Path) -> None:
    trace = json.loads(gzip.decompress((folder / "trace.json.gz").read_bytes()))
    names = [event.get("name") for event in trace["traceEvents"]]
    assert names.count("stage/backward") == 2 * STEPS
    assert "aten::convolution_backward" in names


def test_what_is_profiled_is_training_to_the_last_bit(tmp_path: Path, config: RunConfig) -> None:
    profiled, plain = tiny_parts(config, Place()), tiny_parts(config, Place())
    profile_steps(profiled, steps=1, workers=1, folder=tmp_path)
    steps = endless_steps(plain.state, plain.loader, plain.plan, log_every_steps=1)
    for _, _ in zip(range(profiled.state.step), steps, strict=False):
        pass
    assert profiled.state.step == WARM_UP_STEPS + 1 + 1 + 1
    assert state_digests(profiled.state) == state_digests(plain.state)
    assert not any(part._forward_hooks for part in profiled.state.module.modules())


def test_ranks_that_only_follow_take_as_many_steps(config: RunConfig) -> None:
    parts = tiny_parts(config, Place())
    profile_steps(parts, steps=STEPS, workers=2, folder=None)
    assert parts.state.step == WARM_UP_STEPS + STEPS + 1 + STEPS


@pytest.mark.slow
def test_a_profile_leaves_the_run_as_it_is(config: RunConfig, tmp_path: Path) -> None:
    location = profile_locally(config, name="a", steps=1, build=tiny_parts)
    folder = tmp_path / "runs" / "a"
    assert location == str(folder / "profile")
    assert {path.name for path in folder.iterdir()} == {"profile"}
    assert {path.name for path in Path(location).iterdir()} == set(PROFILE_FILES)
    # Neither does it keep another config from taking the name, nor a run from starting at 0.
    result = train_locally(config.model_copy(update={"seed": 1}), name="a", build=tiny_parts)
    assert result.steps == 2
    before = sorted(folder.rglob("*"))
    profile_locally(config, name="a", steps=1, build=tiny_parts)
    assert sorted(folder.rglob("*")) == before
