"""A LiDAR detector teaches a camera's: what fits, what is taken over, and both stages."""

import json
from pathlib import Path

import pytest
import torch

from mono3d.config.load import load_recipe, parse
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.training.checkpoint import save_checkpoint
from mono3d.training.datasets import build_dataset
from mono3d.training.local import train_locally
from mono3d.training.loop import train_step
from mono3d.training.parts import Place, RunParts, build_parts
from mono3d.training.predict import Detector
from mono3d.training.teachers import with_teacher_found
from tests.support.small_grids import ON_IMAGES, SMALL, save_fresh, write_world

BLOCK = "model.adaptation_blocks=1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("nuscenes"))


def lidar_config(world: Path, *changes: str) -> RunConfig:
    return load_recipe("lidar_pillars_nuscenes_small", [f"data.root={world}", *SMALL, *changes])


@pytest.fixture(scope="module")
def teacher(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has learnt nothing yet."""
    return save_fresh(lidar_config(world), tmp_path_factory.mktemp("teachers") / "teacher")


def student_config(world: Path, teacher: Path, *changes: str) -> RunConfig:
    place = [f"data.root={world}", f"distillation.teacher={teacher}"]
    return load_recipe("nuscenes_cmkd_small", [*place, *SMALL, *ON_IMAGES, BLOCK, *changes])


def step(parts: RunParts, progress: float) -> dict[str, torch.Tensor]:
    batch = next(iter(parts.loader.epoch(0)))
    output = train_step(
        parts.state, [batch], max_grad_norm=35.0, progress=progress, with_statistics=False
    )
    return dict(output.terms)


def test_a_student_starts_with_its_teachers_network_and_head(world: Path, teacher: Path) -> None:
    own = build_parts(student_config(world, teacher), Place()).state.train_module.student
    theirs = build_parts(lidar_config(world), Place()).state.train_module.student
    plain = build_parts(
        student_config(world, teacher, "distillation.start_from_teacher=false"), Place()
    ).state.train_module.student
    wanted, found, fresh = (n.state_dict() for n in (theirs, own, plain))
    shared = [name for name in wanted if name.startswith(("bev_net.", "head."))]
    assert len(shared) > 10
    for name in shared:
        assert torch.equal(found[name], wanted[name]), name
    weights = [name for name in shared if wanted[name].dim() == 4]
    assert not any(torch.equal(fresh[name], wanted[name]) for name in weights)


def test_the_average_starts_there_too(world: Path, teacher: Path) -> None:
    state = build_parts(student_config(world, teacher), Place()).state
    student = state.train_module.student.state_dict()
    for name, value in state.ema.values.items():
        assert torch.equal(value, student[name]), name


def test_answers_are_learnt_from_their_epoch_on(world: Path, teacher: Path) -> None:
    config = student_config(world, teacher, "distillation.response_from_epoch=2")
    parts = build_parts(config, Place())
    first, second = step(parts, 1.9), step(parts, 2.0)
    assert first["distill/feature"] > 0
    assert first["distill/classes"] == first["distill/box"] == first["distill/direction"] == 0
    assert second["distill/classes"] > 0


def test_empty_cells_are_those_without_a_point(world: Path, teacher: Path) -> None:
    """Weighing them by nothing changes the loss; the teacher's map itself is nowhere zero."""
    found = []
    for weight in (1.0, 0.0):
        parts = build_parts(
            student_config(world, teacher, f"distillation.empty_weight={weight}"), Place()
        )
        found.append(float(step(parts, 0.0)["distill/feature"]))
    assert found[0] != pytest.approx(found[1], rel=1e-3)


def test_frames_without_labels_learn_from_the_teacher_alone(world: Path, teacher: Path) -> None:
    config = student_config(
        world, teacher, "loss.classification=0", "loss.offset=0", "loss.height=0", "loss.dims=0",
        "loss.velocity=0", "loss.attribute=0", "loss.axis=0", "loss.direction=0",
    )  # fmt: skip
    parts = build_parts(config, Place())
    before = parts.state.train_module.student.collapse[0].weight.detach().clone()
    step(parts, 0.0)
    assert not torch.equal(parts.state.train_module.student.collapse[0].weight, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ("model.grid.cell_m=1.6",),
            r"distillation\.teacher=\S+: has model\.grid\.cell_m=0\.8, this run 1\.6; they must be",
        ),
        (("model.head={kind: anchors}",), r"has model\.head\.kind=centers, this run anchors"),
        (("model.lifted_channels=32",), r"has model\.lifted_channels=16, this run 32"),
        (("model.bev_layers=2",), r"has model\.bev_layers=1, this run 2"),
        (("data.class_names=[car]",), r"its classes are \['car', 'truck'"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_in_a_line(
    world: Path, teacher: Path, changes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        with_teacher_found(student_config(world, teacher, *changes))
    assert "\n" not in str(error.value)


def test_another_network_on_the_grid_is_fine_for_who_does_not_start_from_it(
    world: Path, teacher: Path
) -> None:
    changes = ("model.bev_layers=2", "distillation.start_from_teacher=false")
    with_teacher_found(student_config(world, teacher, *changes))


def test_a_teacher_must_read_lidar(world: Path, teacher: Path, tmp_path: Path) -> None:
    config = student_config(world, teacher)
    plain = config.model_copy(update={"distillation": load_recipe("nuscenes_bev").distillation})
    parts = build_parts(plain, Place())
    save_checkpoint(parts.state, tmp_path / "camera", facts=parts.facts, metrics={})
    with pytest.raises(ConfigError, match=r"has model\.kind=bev; this teacher reads LiDAR"):
        with_teacher_found(student_config(world, tmp_path / "camera"))


def merged(world: Path, config: RunConfig, *, has_labels: bool) -> RunConfig:
    """The same run on two sets of the world, of which the second may be unlabelled."""
    own = {
        "kind": "nuscenes", "root": str(world), "version": "v1.0-synth", "ground_height_m": 0.0,
        "train_split": "synth_train",
    }  # fmt: skip
    tree = config.model_dump(mode="json")
    tree["data"] = {
        "kind": "merged",
        "class_names": tree["data"]["class_names"],
        "sets": {
            "seen": {**own, "val_split": "synth_val"},
            "raw": {**own, "val_split": None, "has_labels": has_labels},
        },
    }
    tree["checkpoint"] = {"metric": "val/seen/nuscenes_map"}
    tree["input"]["paste_frames"] = 0
    tree["train"]["epoch_frames"] = 4
    return parse(tree, source="test")


def test_unlabelled_frames_are_taught_in_the_same_run(
    world: Path, teacher: Path, tmp_path: Path
) -> None:
    lidar = build_parts(merged(world, lidar_config(world), has_labels=True), Place())
    save_checkpoint(lidar.state, tmp_path / "teacher", facts=lidar.facts, metrics={})
    config = merged(world, student_config(world, tmp_path / "teacher"), has_labels=False)
    parts = build_parts(config, Place())
    batches = list(parts.loader.epoch(0))
    kinds = {batch.frame_ids[0].split("/")[0]: batch for batch in batches}
    assert set(kinds) == {"seen", "raw"}
    for name, batch in kinds.items():
        output = train_step(
            parts.state, [batch], max_grad_norm=35.0, progress=0.0, with_statistics=False
        )
        assert output.terms["distill/feature"] > 0
        assert output.terms["distill/classes"] > 0
        assert (output.terms["offset"] > 0) == (name == "seen")
        assert (output.terms["classification"] > 0) == (name == "seen")
        assert output.terms["depth"] > 0


@pytest.mark.slow
def test_teacher_and_student_are_ordinary_runs(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    epochs = ("train.epochs=1", "evaluation.every_epochs=1")
    taught_by = train_locally(lidar_config(world, *epochs), name="teacher")
    assert "val/nuscenes_map" in taught_by.metrics
    assert "val/centers_depth_abs_rel" not in taught_by.metrics  # it says nothing of pixels
    result = train_locally(student_config(world, Path("runs/teacher"), *epochs), name="student")
    lines = [
        json.loads(line)
        for line in Path("runs/student/metrics.jsonl").read_text().split("\n")
        if line
    ]
    terms = {f"loss/distill/{name}" for name in ("feature", "classes", "box", "direction")}
    assert terms <= lines[0]["metrics"].keys()
    state = json.loads((Path(result.last_checkpoint) / "state.json").read_text())
    assert state["data"]["teacher"]["checkpoint"].endswith("step_00000002")
    detector = Detector.load("runs/student")
    dataset = build_dataset(student_config(world, Path("runs/teacher")), "val", with_points=False)
    with pytest.raises(ConfigError, match=r"flip \(--flip\): is for detectors that answer in im"):
        detector.detect(dataset[0], flip=True)
    with pytest.raises(ConfigError, match=r"has model\.kind=lidar: it is a teacher"):
        Detector.load("runs/teacher")
