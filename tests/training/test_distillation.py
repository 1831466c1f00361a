"""A run with a teacher: where it comes from, what fits it, what is kept of it, and resuming."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mono3d.config.schema import RunConfig
from mono3d.errors import CheckpointError, ConfigError
from mono3d.model.depth_input import DepthInput
from mono3d.training.checkpoint import (
    EMA,
    METRICS,
    MODEL,
    OPTIMISER,
    load_checkpoint,
    read_metadata,
)
from mono3d.training.checkpoint_files import digest
from mono3d.training.local import train_locally
from mono3d.training.loop import train_step
from mono3d.training.model_assembly import build_model, load_network
from mono3d.training.parts import Place, RunParts
from mono3d.training.run_description import RunPlace, describe, run_tags
from mono3d.training.teachers import with_teacher_found
from tests.support.training import CENTER, save_untrained, state_digests, tiny_config, tiny_parts

ADD = {"distillation__kind": "add", "distillation__heads": 2}


def taught_by(teacher: Path, **overrides: object) -> RunConfig:
    return tiny_config(**(ADD | {"distillation__teacher": str(teacher)} | overrides))


def teacher_in(folder: Path, **overrides: object) -> Path:
    """A teacher that has learnt nothing, but whose answers depend on depth."""
    depth = overrides.pop("model__depth_input", "objects")
    config = tiny_config(**overrides, model__depth_input=depth)
    return save_untrained(config, folder)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return teacher_in(tmp_path / "teacher")


def first_step(parts: RunParts) -> None:
    batches = list(zip(range(2), parts.loader.epoch(0), strict=False))
    train_step(
        parts.state,
        [batch for _, batch in batches],
        max_grad_norm=35.0,
        progress=0.0,
        with_statistics=True,
    )


@pytest.mark.parametrize("family", [{}, CENTER])
def test_a_student_learns_from_a_checkpoint(tmp_path: Path, family: dict[str, object]) -> None:
    teacher = teacher_in(tmp_path / "teacher", **family)
    config = taught_by(teacher, cluster__storage=str(tmp_path / "runs"), **family)
    config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})
    result = train_locally(config, name="student", build=tiny_parts)
    spool = tmp_path / "runs" / "student" / METRICS
    lines = [json.loads(line) for line in spool.read_text().splitlines()]
    terms = {f"loss/distill/{name}" for name in ("feature", "object", "response")}
    assert terms <= lines[0]["metrics"].keys()
    assert result.steps == lines[-1]["step"]


def test_checkpoints_hold_student_and_adapters_and_never_the_teacher(
    teacher: Path, tmp_path: Path
) -> None:
    config = taught_by(teacher, cluster__storage=str(tmp_path / "runs"), train__epochs=1)
    last = train_locally(config, name="student", build=tiny_parts).last_checkpoint
    plain = build_model(tiny_config()).state_dict().keys()
    assert load_file(Path(last) / EMA).keys() == plain
    model, optimiser = (load_file(Path(last) / name) for name in (MODEL, OPTIMISER))
    kinds = {name.split(".")[0] for name in model}
    assert kinds == {"student", "objective", "adapters"}
    assert not any("depth_input" in name for name in (*model, *optimiser))
    assert any(name.startswith("adapters.") for name in optimiser)
    _, network = load_network(last, device="cpu")
    assert network.state_dict().keys() == plain


def test_a_checkpoint_says_who_taught(teacher: Path, tmp_path: Path) -> None:
    config = taught_by(teacher, cluster__storage=str(tmp_path / "runs"), train__epochs=1)
    last = train_locally(config, name="student", build=tiny_parts).last_checkpoint
    said = read_metadata(last).data["teacher"]
    assert said["checkpoint"] == str(teacher)
    assert said["fingerprint"] == digest(teacher, EMA)
    assert said["step"] == 0


def test_a_run_goes_on_with_its_teacher_and_refuses_another(teacher: Path, tmp_path: Path) -> None:
    config = taught_by(teacher, cluster__storage=str(tmp_path / "runs"), train__epochs=1)
    last = train_locally(config, name="student", build=tiny_parts).last_checkpoint
    parts = tiny_parts(config, Place())
    load_checkpoint(last, parts.state, data=parts.facts.data)
    teacher_in(teacher, seed=1)
    other = tiny_parts(config, Place())
    with pytest.raises(CheckpointError, match=r"other data: the teacher had fingerprint .*, now "):
        load_checkpoint(last, other.state, data=other.facts.data)


def test_two_runs_of_one_config_are_equal_to_the_last_bit(teacher: Path) -> None:
    digests = []
    for _ in range(2):
        parts = tiny_parts(taught_by(teacher), Place())
        parts.state.module.train()
        first_step(parts)
        digests.append(state_digests(parts.state))
    assert digests[0] == digests[1]


def test_it_combines_with_mining_and_an_iou_loss(teacher: Path) -> None:
    config = taught_by(teacher, iou_loss__kind="gciou", iou_loss__warmup_epochs=0)
    parts = tiny_parts(config, Place())
    assert config.mining.kind == "gmm"
    parts.state.module.train()
    first_step(parts)
    assert parts.state.skipped == 0


def test_bfloat16_teaches_too(teacher: Path) -> None:
    parts = tiny_parts(taught_by(teacher, train__precision="bfloat16"), Place())
    parts.state.module.train()
    first_step(parts)
    assert parts.state.skipped == 0
    assert all(p.isfinite().all() for p in parts.state.module.parameters())


def test_a_run_names_its_teacher(teacher: Path, tmp_path: Path) -> None:
    """By the run's folder; what is written down is the checkpoint."""
    runs = tmp_path / "runs"
    own = tiny_config(model__depth_input="objects", cluster__storage=str(runs), train__epochs=1)
    best = train_locally(own, name="teacher", build=tiny_parts).best_checkpoint
    found = with_teacher_found(taught_by(runs / "teacher"))
    assert found.distillation.kind == "add"
    assert found.distillation.teacher == best
    assert with_teacher_found(found) == found


def test_tags_and_description_say_what_is_distilled(teacher: Path) -> None:
    config = taught_by(teacher)
    assert run_tags(config)["distillation"] == "add"
    place = RunPlace(recipe=None, folder="runs/x", splits={}, run_id=None)
    assert f"teacher {teacher}" in describe(config, place)
    assert "distillation add" in describe(config, place).splitlines()[0]


@pytest.mark.parametrize(
    ("teacher_has", "student_has", "complaint"),
    [
        ({"model__depth_input": "none"}, {}, r"depth_input=none; a teacher reads true"),
        (CENTER, {}, r"has model\.kind=center, this run dense"),
        ({"model__strides_px": [8, 16]}, {}, r"strides_px=\[8, 16\], this run \[8, 16, 32\]"),
        (
            {"model__depth_code__std_log": 0.5}, {},
            r"model\.depth_code\.std_log=0\.5, this run 0\.6",
        ),
        ({"data__class_names": ["car", "bicycle"]}, {}, r"its classes are \['car', 'bicycle'\]"),
        ({}, {"distillation__responses": ["depth"]}, r"'depth' is none of this detector's: cl"),
        ({}, {"distillation__features": ["bev"]}, r"^distillation\.features: feature map 'bev'"),
        ({}, {"model__depth_input": "lidar"}, r"=lidar: distillation\.teacher=.* reads obj"),
    ],
)  # fmt: skip
def test_a_teacher_that_does_not_fit_is_refused_in_a_line(
    tmp_path: Path,
    teacher_has: dict[str, object],
    student_has: dict[str, object],
    complaint: str,
) -> None:
    teacher = teacher_in(tmp_path / "teacher", **teacher_has)
    with pytest.raises(ConfigError, match=complaint) as caught:
        tiny_parts(taught_by(teacher, **student_has), Place())
    assert "\n" not in str(caught.value)


def test_a_damaged_teacher_is_refused(teacher: Path) -> None:
    (teacher / EMA).write_bytes((teacher / EMA).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"ema\.safetensors has \d+ bytes, \d+ were written"):
        tiny_parts(taught_by(teacher), Place())


def test_a_teacher_that_is_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(
        ConfigError,
        match=r"^distillation\.teacher=.*/none: checkpoint '.*': no such folder; .* trained first",
    ):
        with_teacher_found(taught_by(tmp_path / "none"))


def test_a_teacher_itself_is_trained_by_the_ordinary_loop() -> None:
    """Its branch starts at zero and learns from the first step on."""
    parts = tiny_parts(tiny_config(model__depth_input="objects"), Place())
    student = parts.state.train_module.student
    (branch,) = (m for m in student.modules() if isinstance(m, DepthInput))
    parts.state.module.train()
    first_step(parts)
    assert isinstance(branch.output.weight, torch.Tensor)
    assert branch.output.weight.any()


def test_heads_that_do_not_divide_are_refused_with_the_config() -> None:
    with pytest.raises(ConfigError, match=r"distillation\.heads=3: must divide model\.channels=8"):
        taught_by(Path("anywhere"), distillation__heads=3)


def test_a_teacher_of_labels_is_refused_where_frames_have_none(tmp_path: Path) -> None:
    teacher = teacher_in(tmp_path / "teacher")
    folder = {"kind": "kitti", "root": "x", "train_split": "train"}
    sets = {
        "a": {**folder, "val_split": "val"},
        "raw": {**folder, "has_labels": False, "val_split": None},
    }
    data = {"kind": "merged", "class_names": ["car", "pedestrian"], "sets": sets}
    config = taught_by(
        teacher, data=data, checkpoint__metric="val/centers_depth_abs_rel", checkpoint__mode="min"
    )
    with pytest.raises(
        ConfigError, match=r"^data\.sets\.raw\.has_labels=false: .* reads the depth"
    ):
        with_teacher_found(config)


def test_a_wrong_teacher_does_not_take_the_run_s_name(teacher: Path, tmp_path: Path) -> None:
    settings = {"cluster__storage": str(tmp_path / "runs"), "train__epochs": 1}
    plain = save_untrained(tiny_config(), tmp_path / "plain")
    with pytest.raises(ConfigError, match=r"depth_input=none"):
        train_locally(taught_by(plain, **settings), name="a", build=tiny_parts)
    assert train_locally(taught_by(teacher, **settings), name="a", build=tiny_parts).steps


def test_a_teacher_may_move_and_a_finished_student_needs_none(
    teacher: Path, tmp_path: Path
) -> None:
    settings = {"cluster__storage": str(tmp_path / "runs"), "train__epochs": 1}
    config = taught_by(teacher, **settings)
    done = train_locally(config, name="a", build=tiny_parts)
    moved = teacher.rename(tmp_path / "elsewhere")
    assert train_locally(config, name="a", build=tiny_parts) == done
    assert train_locally(taught_by(moved, **settings), name="a", build=tiny_parts) == done
