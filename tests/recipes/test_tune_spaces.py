from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest

from mono3d.config.load import apply_overrides, parse, read_recipe
from mono3d.search.space import Space, load_space, overrides_of
from mono3d.search.space_walk import check_space
from tests.support.mining import MINING_KINDS

FOLDER = Path(__file__).parents[2] / "tune_spaces"
DEFAULTS = {"data": {"root": "somewhere"}}
# Its optimiser, schedule and mining are of another kind than most draws ask for.
OTHER_KINDS = {
    "data": {"root": "somewhere"},
    "optim": {"kind": "sgd", "momentum": 0.8},
    "schedule": {"kind": "step", "milestone_epochs": [3]},
    "mining": {"kind": "gmm", "sharpness": 6.0},
}
GCIOU = {**DEFAULTS, "iou_loss": {"kind": "gciou", "alpha": None, "warmup_epochs": 2.0}}
TAUGHT = {**OTHER_KINDS, "distillation": {"kind": "add", "teacher": "runs/teacher", "heads": 8}}
DEPTH_TEACHER = {"MONO3D_DEPTH_TEACHER": "runs/depth"}
ON_GRID = {
    **DEPTH_TEACHER,
    "MONO3D_DISTILLERS": "none,add,cmkd,monotakd",
    "MONO3D_LIDAR_TEACHER": "runs/lidar",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A space and a recipe that it fits."""

    space: str
    recipe: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)


CASES = {
    "optim": Case(space="optim", recipe=DEFAULTS),
    "optim, other kinds": Case(space="optim", recipe=OTHER_KINDS),
    "mining": Case(space="mining", recipe=DEFAULTS),
    "mining, other kinds": Case(space="mining", recipe=OTHER_KINDS),
    "iou_loss": Case(space="iou_loss", recipe=DEFAULTS),
    "iou_loss, other kinds": Case(space="iou_loss", recipe=GCIOU),
    "distillation": Case(space="distillation", recipe=TAUGHT),
    "distillation, teacher elsewhere": Case(
        space="distillation", recipe=DEFAULTS, environment=DEPTH_TEACHER
    ),
    "distillation, on the grid": Case(
        space="distillation", recipe=read_recipe("kitti_add_bev"), environment=ON_GRID
    ),
    "distillation, cmkd": Case(
        space="distillation",
        recipe=read_recipe("kitti_cmkd_small"),
        environment={"MONO3D_DISTILLERS": "none,cmkd"},
    ),
    "distillation, monotakd": Case(
        space="distillation",
        recipe=read_recipe("kitti_monotakd_small"),
        environment={"MONO3D_DISTILLERS": "none,monotakd"},
    ),
    "everything": Case(space="everything", recipe=TAUGHT),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    chosen: Case = request.param
    for name in ON_GRID:
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.environment.items():
        monkeypatch.setenv(name, value)
    return chosen


def load(name: str) -> Space:
    return load_space(str(FOLDER / f"{name}.py"))


def draw(space: Space, count: int) -> list[list[tuple[str, Any]]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [overrides_of(space, study.ask()) for _ in range(count)]


def test_every_space_has_a_recipe_that_it_fits() -> None:
    assert {case.space for case in CASES.values()} == {path.stem for path in FOLDER.glob("*.py")}


def test_every_draw_is_a_valid_run_that_holds_what_was_drawn(case: Case) -> None:
    for overrides in draw(load(case.space), 60):
        config = parse(apply_overrides(case.recipe, overrides), source=case.space).model_dump()
        for path, value in overrides:
            node: Any = config
            for key in path.split("."):
                node = node[key]
            assert node == value, path


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[pytest.mark.slow] * (case.space == "everything"))
        for name, case in CASES.items()
    ],
    indirect=True,
)
def test_all_branches_are_runs_of_a_recipe_that_fits(case: Case) -> None:
    space = load(case.space)
    shape = check_space(space, case.recipe, source="recipe")
    drawn = {path for overrides in draw(space, 60) for path, _ in overrides}
    assert not shape.is_flat
    assert set(shape.distributions) <= drawn  # which 60 draws find here, and need not elsewhere


@pytest.mark.parametrize(
    ("name", "path", "values"),
    [
        ("optim", "schedule.kind", {"cosine", "step"}),
        ("mining", "mining.kind", set(MINING_KINDS)),
        (
            "iou_loss",
            "iou_loss.kind",
            {"none", "iou", "log_iou", "giou", "diou", "rdiou", "gciou"},
        ),
        ("distillation", "distillation.kind", {"none", "add", "cmkd", "monotakd"}),
    ],
)
def test_every_branch_is_drawn(
    name: str, path: str, values: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in ON_GRID.items():
        monkeypatch.setenv(variable, value)
    drawn = {value for overrides in draw(load(name), 60) for key, value in overrides if key == path}
    assert drawn == values


@pytest.mark.parametrize("name", sorted({case.space for case in CASES.values()}))
def test_a_space_says_its_question_its_cost_and_its_metric(name: str) -> None:
    space = load(name)
    assert "?" in space.about
    assert "trials" in space.about or "search to make" in space.about
    assert len(space.objectives) == 1


def test_a_distiller_is_taught_by_those_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in ON_GRID.items():
        monkeypatch.setenv(variable, value)
    tree = read_recipe("kitti_add_bev")
    taught = set()
    for overrides in draw(load("distillation"), 60):
        config = parse(apply_overrides(tree, overrides), source="test")
        chosen = config.distillation
        names = [getattr(chosen, role, None) for role in ("teacher", "assistant")]
        taught.add((chosen.kind, *names, getattr(config.model, "residual_stream", None)))
        if chosen.kind == "add":
            assert chosen.responses == ("box_residuals",)  # the recipe's
    assert taught == {
        ("none", None, None, False),
        ("add", "runs/depth", None, False),
        ("cmkd", "runs/lidar", None, False),
        ("monotakd", "runs/lidar", "runs/depth", True),
    }
