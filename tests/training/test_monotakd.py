"""A LiDAR detector and an assistant teach a camera's: who fits, both kinds of assistant."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.training.checkpoint import read_metadata
from mono3d.training.local import train_locally
from mono3d.training.loop import train_step
from mono3d.training.parts import Place, build_parts
from mono3d.training.teachers import teacher_facts, with_teacher_found
from tests.support.small_grids import ON_IMAGES, SMALL, save_fresh, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("nuscenes"))


@pytest.fixture(scope="module")
def taught_by(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Teacher and assistant."""
    folder, place = tmp_path_factory.mktemp("networks"), f"data.root={world}"
    lidar = load_recipe("lidar_pillars_nuscenes_small", [place, *SMALL])
    camera = load_recipe(
        "nuscenes_bev_small", [place, *SMALL, *ON_IMAGES, "model.depth_input=lidar"]
    )
    return {
        "teacher": save_fresh(lidar, folder / "teacher"),
        "assistant": save_fresh(camera, folder / "assistant"),
    }


def student_config(world: Path, taught_by: dict[str, Path], *changes: str) -> RunConfig:
    names = [f"distillation.{role}={path}" for role, path in taught_by.items()]
    return load_recipe(
        "nuscenes_monotakd_small", [f"data.root={world}", *names, *SMALL, *ON_IMAGES, *changes]
    )


TERMS = {"intra", "residual", "classes", "box", "direction"}


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ((), TERMS),
        (("distillation.assistant=null",), TERMS | {"assistant"}),
        (
            ("model.residual_stream=false", "distillation.residual=0", "distillation.direct=1"),
            (TERMS - {"residual"}) | {"direct"},
        ),
    ],
    ids=["two steps", "shared", "lite, direct"],
)
def test_a_step_has_the_terms_that_are_wanted(
    world: Path, taught_by: dict[str, Path], changes: tuple[str, ...], terms: set[str]
) -> None:
    parts = build_parts(student_config(world, taught_by, *changes), Place())
    batch = next(iter(parts.loader.epoch(0)))
    assert batch.depth_input is not None
    output = train_step(
        parts.state, [batch], max_grad_norm=35.0, progress=0.0, with_statistics=False
    )
    found = {name.removeprefix("distill/") for name in output.terms if name.startswith("distill/")}
    assert found == terms
    assert all(value.isfinite() for value in output.terms.values())
    assert parts.state.skipped == 0


def test_what_infers_touches_neither_depth_nor_points(
    world: Path, taught_by: dict[str, Path]
) -> None:
    for changes in ((), ("distillation.assistant=null",)):
        parts = build_parts(student_config(world, taught_by, *changes), Place())
        student = parts.state.train_module.student.eval()
        batch = next(iter(parts.loader.epoch(0)))
        bare = replace(batch, depth_input=None, depth_targets=None, points=None, point_offsets=None)
        with torch.no_grad():
            said, alone = student(batch).responses, student(bare).responses
        for name, value in said.items():
            assert torch.equal(alone[name], value), name


def test_who_teaches_is_known_by_weights(world: Path, taught_by: dict[str, Path]) -> None:
    both = teacher_facts(student_config(world, taught_by))
    shared = teacher_facts(student_config(world, taught_by, "distillation.assistant=null"))
    assert both is not None
    assert shared is not None
    assert list(both.by_role) == ["teacher", "assistant"]
    assert shared.fingerprint == both.by_role["teacher"].fingerprint
    assert both.fingerprint not in {facts.fingerprint for facts in both.by_role.values()}
    assert both.needs_lidar
    assert both.depth == shared.depth == "lidar"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ("model.depth_input=none",),
            r"distillation\.assistant=\S+: has model\.depth_input=none; an assistant reads true",
        ),
        (("model.lifted_channels=32",), r"assistant=\S+: has model\.lifted_channels=32, this run"),
        (("model.grid.cell_m=1.6",), r"assistant=\S+: has model\.grid\.cell_m=1\.6, this run 0\.8"),
    ],
)
def test_an_assistant_that_does_not_fit_is_refused_in_a_line(
    world: Path,
    taught_by: dict[str, Path],
    tmp_path: Path,
    changes: tuple[str, ...],
    message: str,
) -> None:
    overrides = [
        f"data.root={world}", *SMALL, *ON_IMAGES, "model.depth_input=lidar", *changes,
    ]  # fmt: skip
    other = save_fresh(load_recipe("nuscenes_bev_small", overrides), tmp_path / "other")
    with pytest.raises(ConfigError, match=message) as error:
        with_teacher_found(student_config(world, {**taught_by, "assistant": other}))
    assert "\n" not in str(error.value)


def test_an_assistant_that_is_nowhere_is_named(world: Path, taught_by: dict[str, Path]) -> None:
    missing = {**taught_by, "assistant": Path("runs/none-such")}
    with pytest.raises(
        ConfigError, match=r"distillation\.assistant=runs/none-such: .*an assistant"
    ):
        with_teacher_found(student_config(world, missing))


def test_the_residual_needs_its_stream(world: Path, taught_by: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"needs model\.residual_stream=true"):
        student_config(world, taught_by, "model.residual_stream=false")


@pytest.mark.slow
def test_a_student_s_checkpoint_names_teacher_and_assistant(
    world: Path, taught_by: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = student_config(world, taught_by, "train.epochs=1", "evaluation.every_epochs=1")
    result = train_locally(config, name="student")
    data = read_metadata(result.last_checkpoint).data
    assert data["teacher"]["checkpoint"] == str(taught_by["teacher"])
    assert data["assistant"]["checkpoint"] == str(taught_by["assistant"])
    assert data["assistant"]["data"]["train"]["fingerprint"]
    lines = Path("runs/student/metrics.jsonl").read_text().splitlines()
    assert {f"loss/distill/{name}" for name in TERMS} <= json.loads(lines[0])["metrics"].keys()
