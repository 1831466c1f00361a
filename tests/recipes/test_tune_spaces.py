import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest

from mono3d.config.load import all_keys, apply_overrides, parse
from mono3d.config.schema import RunConfig
from tests.support.mining import MINING_KINDS

FOLDER = Path(__file__).parents[2] / "tune_spaces"
SPACES = sorted(path.stem for path in FOLDER.glob("*.py"))
# Its optimiser, schedule and mining are of another kind than most draws ask for.
OTHER_RECIPE = {
    "data": {"root": "somewhere"},
    "optim": {"kind": "sgd", "momentum": 0.8},
    "schedule": {"kind": "step", "milestone_epochs": [3]},
    "mining": {"kind": "gmm", "sharpness": 6.0},
}
RECIPES = {"defaults": {"data": {"root": "somewhere"}}, "other kinds": OTHER_RECIPE}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tune_space_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(name: str, count: int) -> list[list[tuple[str, Any]]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    module, draws = load(name), []
    for _ in range(count):
        trial = study.ask()
        fixed = module.space(trial)
        draws.append([*fixed.items(), *trial.params.items()])
    return draws


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("name", SPACES)
def test_every_draw_is_a_valid_run_that_holds_what_was_drawn(
    name: str, recipe: dict[str, Any]
) -> None:
    for overrides in draw(name, 60):
        config = parse(apply_overrides(recipe, overrides), source=name).model_dump()
        for path, value in overrides:
            node: Any = config
            for key in path.split("."):
                node = node[key]
            assert node == value, path


@pytest.mark.parametrize(
    ("name", "path", "values"),
    [
        ("optim", "schedule.kind", {"cosine", "step"}),
        ("mining", "mining.kind", set(MINING_KINDS)),
    ],
)
def test_every_branch_is_drawn(name: str, path: str, values: set[str]) -> None:
    drawn = {value for overrides in draw(name, 60) for key, value in overrides if key == path}
    assert drawn == values


@pytest.mark.parametrize("name", SPACES)
def test_names_are_config_paths_and_the_metric_is_one_of_validation(name: str) -> None:
    paths = {path for overrides in draw(name, 60) for path, _ in overrides}
    assert paths <= all_keys(RunConfig)
    module = load(name)
    assert module.METRIC.startswith("val/")
    assert module.MODE in {"min", "max"}
