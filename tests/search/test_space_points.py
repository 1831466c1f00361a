"""The recipe and earlier runs as trials of a space."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest

from mono3d.config.load import apply_overrides, flatten, parse
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.search.space import Objective, Space, Suggest, overrides_of
from mono3d.search.space_points import defaults_of, params_from

TREE: Mapping[str, Any] = {"data": {"root": "somewhere"}}


def draw_branches(trial: Suggest) -> Mapping[str, Any]:
    trial.suggest_float("optim.lr", 1e-4, 1e-2, log=True)
    trial.suggest_int("schedule.warmup_steps", 0, 1000, step=100)
    trial.suggest_categorical("model.has_depth_map", [True, False])
    if trial.suggest_categorical("mining.kind", ["gmm", "ohem", "none"]) == "gmm":
        trial.suggest_float("mining.sharpness", 1.0, 8.0)
        trial.suggest_categorical("mining.typical_error", [0.1, None])
    return {"optim.kind": "adamw"}


def space_of(draw: Callable[[Suggest], Mapping[str, Any]] = draw_branches) -> Space:
    objectives = (Objective(metric="val/nuscenes_map", mode="max"),)
    return Space(source="mine.py", digest="", about="", objectives=objectives, draw=draw)


def config_of(**settings: Any) -> RunConfig:
    overrides = [(path.replace("__", "."), value) for path, value in settings.items()]
    return parse(apply_overrides(TREE, overrides), source="test")


def test_the_recipes_own_values_are_followed() -> None:
    config = config_of(optim__lr=3e-4, mining__kind="gmm", mining__sharpness=5.5)
    assert defaults_of(space_of(), config) == {
        "optim.lr": 3e-4,
        "schedule.warmup_steps": 500,
        "model.has_depth_map": False,
        "mining.kind": "gmm",
        "mining.sharpness": 5.5,
        "mining.typical_error": None,
    }
    assert defaults_of(space_of(), config_of())["mining.kind"] == "none"
    assert "mining.sharpness" not in defaults_of(space_of(), config_of())


def test_a_study_takes_them_without_a_warning() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    defaults = defaults_of(space_of(), config_of(mining__kind="gmm"))
    study.enqueue_trial(defaults)
    trial = study.ask()
    overrides_of(space_of(), trial)
    assert trial.params == defaults


def test_values_out_of_range_become_the_nearest_and_unknown_choices_the_first() -> None:
    config = config_of(optim__lr=0.5, schedule__warmup_steps=140, mining__kind="pisa")
    defaults = defaults_of(space_of(), config)
    assert defaults["optim.lr"] == 1e-2
    assert defaults["schedule.warmup_steps"] == 100
    assert defaults["mining.kind"] == "gmm"
    assert defaults["mining.typical_error"] == 0.1


def test_numbers_of_another_kind_than_the_recipes_are_the_defaults_of_that_kind() -> None:
    """Not the learning rate of another optimiser, nor something in the middle of a range."""
    config = config_of(optim__kind="sgd", optim__lr=9e-3, mining__kind="focal")
    defaults = defaults_of(space_of(), config)
    assert defaults["optim.lr"] == 2e-4
    assert defaults["mining.sharpness"] == 4.0


def test_kinds_that_are_no_run_with_their_defaults_still_have_a_trial() -> None:
    """Three epochs before boxes are compared are too many of three; the space has fewer."""

    def draw(trial: Suggest) -> Mapping[str, Any]:
        trial.suggest_categorical("iou_loss.kind", ["giou", "diou"])
        trial.suggest_float("iou_loss.warmup_epochs", 0.0, 2.0, step=0.5)
        return {}

    defaults = defaults_of(space_of(draw), config_of(train__epochs=3))
    assert defaults == {"iou_loss.kind": "giou", "iou_loss.warmup_epochs": 1.0}


def test_a_null_where_the_space_has_numbers_is_a_number_of_the_range() -> None:
    def draw(trial: Suggest) -> Mapping[str, Any]:
        trial.suggest_int("train.epoch_frames", 100, 200)
        return {}

    assert defaults_of(space_of(draw), config_of()) == {"train.epoch_frames": 162}


def test_a_runs_params_of_mlflow_are_a_trial() -> None:
    config = config_of(optim__lr=3e-4, mining__kind="gmm", model__has_depth_map=True)
    params, distributions = params_from(space_of(), flatten(config))
    assert params == defaults_of(space_of(), config)
    assert set(distributions) == set(params)
    trial = optuna.trial.create_trial(params=params, distributions=distributions, value=0.5)
    study = optuna.create_study()
    study.add_trial(trial)
    assert study.best_params == params


def test_a_trials_own_values_are_a_trial() -> None:
    values = {
        "optim.lr": 1e-3,
        "schedule.warmup_steps": 300,
        "model.has_depth_map": True,
        "mining.kind": "ohem",
        "mining.share": 0.5,
    }
    params, _ = params_from(space_of(), values)
    assert params == {name: values[name] for name in params}
    assert "mining.share" not in params


def test_choices_that_yaml_reads_otherwise_are_choices() -> None:
    def draw(trial: Suggest) -> Mapping[str, Any]:
        trial.suggest_categorical("iou_loss.rescale", ["normalised", "off"])
        trial.suggest_categorical("iou_loss.alpha", [2.0, None])
        return {}

    params, _ = params_from(space_of(draw), {"iou_loss.rescale": "off", "iou_loss.alpha": "null"})
    assert params == {"iou_loss.rescale": "off", "iou_loss.alpha": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim.lr": None}, "optim.lr: is missing"),
        ({"optim.lr": 0.5}, "optim.lr=0.5: is not in 0.0001 to 0.01"),
        ({"optim.lr": "fast"}, "optim.lr=fast: is not in 0.0001 to 0.01"),
        ({"optim.lr": "["}, "optim.lr=[: is not in 0.0001 to 0.01"),
        ({"optim.lr": True}, "optim.lr=True: is not in 0.0001 to 0.01"),
        (
            {"schedule.warmup_steps": 150},
            "schedule.warmup_steps=150: is not in 0 to 1000 in steps of 100",
        ),
        ({"mining.kind": "pisa"}, "mining.kind=pisa: is not in gmm, ohem, none"),
        ({"mining.kind": "gmm"}, "mining.sharpness: is missing"),
        ({"optim.kind": "sgd"}, "optim.kind=sgd: is fixed at adamw"),
    ],
)
def test_a_run_that_is_none_of_the_space_is_refused(changes: dict[str, Any], message: str) -> None:
    values = {**flatten(config_of()), **changes}
    values = {path: value for path, value in values.items() if value is not None}
    with pytest.raises(ConfigError, match=f"^space mine.py: {re.escape(message)}$"):
        params_from(space_of(), values)


def test_fixed_values_count_where_they_are_known() -> None:
    def draw(trial: Suggest) -> Mapping[str, Any]:
        trial.suggest_float("loss.depth", 0.5, 4.0)
        return {"model.strides_px": (8, 16), "train.precision": "float32"}

    space = space_of(draw)
    assert params_from(space, {"loss.depth": "2"})[0] == {"loss.depth": 2.0}
    known = {"loss.depth": 2, "model.strides_px": "[8, 16]", "train.precision": "float32"}
    assert params_from(space, known)[0] == {"loss.depth": 2.0}
    with pytest.raises(ConfigError, match=r"strides_px=\[8\]: is fixed at \(8, 16\)$"):
        params_from(space, {**known, "model.strides_px": "[8]"})
