"""All of a space is seen before the first trial: its branches, its names, and what they make."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mono3d.config.load import read_recipe
from mono3d.errors import ConfigError
from mono3d.search.space import Objective, Space, SpaceShape, Suggest, load_space
from mono3d.search.space_walk import ScriptedTrial, check_space, inner_point, nearest

TREE = {"data": {"root": "somewhere"}}
KINDS = ["none", "gmm", "ohem", "easy_topk", "focal", "ghm", "pisa", "range_cut", "lss"]
Draw = Callable[[Suggest], Mapping[str, Any] | None]


def space_of(draw: Draw) -> Space:
    def space(trial: Suggest) -> Mapping[str, Any]:
        return draw(trial) or {}

    objectives = (Objective(metric="val/nuscenes_map", mode="max"),)
    return Space(source="mine.py", digest="", about="", objectives=objectives, draw=space)


def check(draw: Draw, tree: Mapping[str, Any] = TREE) -> SpaceShape:
    return check_space(space_of(draw), tree, source="recipe")


def message_of(draw: Draw, tree: Mapping[str, Any] = TREE) -> str:
    with pytest.raises(ConfigError) as caught:
        check(draw, tree)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_flat_space_of_numbers() -> None:
    def draw(trial: Suggest) -> None:
        trial.suggest_float("optim.lr", 1e-4, 1e-2, log=True)
        trial.suggest_int("schedule.warmup_steps", 0, 500, step=100)

    shape = check(draw)
    assert shape.distributions == {
        "optim.lr": FloatDistribution(1e-4, 1e-2, log=True),
        "schedule.warmup_steps": IntDistribution(0, 500, step=100),
    }
    assert shape.is_flat
    assert shape.is_numeric


def test_a_flat_space_with_choices() -> None:
    shape = check(lambda trial: trial.suggest_categorical("mining.kind", KINDS) and {})
    assert shape.distributions == {"mining.kind": CategoricalDistribution(KINDS)}
    assert shape.is_flat
    assert not shape.is_numeric


def test_a_space_with_branches_is_not_flat() -> None:
    def draw(trial: Suggest) -> None:
        if trial.suggest_categorical("mining.kind", KINDS) == "gmm":
            trial.suggest_float("mining.sharpness", 1.0, 8.0)

    shape = check(draw)
    assert set(shape.distributions) == {"mining.kind", "mining.sharpness"}
    assert not shape.is_flat


def test_a_name_with_other_ranges_on_other_branches_is_not_flat_and_allowed() -> None:
    def draw(trial: Suggest) -> Mapping[str, Any]:
        steps = trial.suggest_int("schedule.warmup_steps", 0, 100)
        trial.suggest_float("optim.lr", 1e-4, 1e-2 if steps > 50 else 1e-3)
        return {}

    shape = check(draw)
    assert shape.distributions["optim.lr"] == FloatDistribution(1e-4, 1e-3)
    assert not shape.is_flat
    assert shape.is_numeric


def test_what_random_draws_would_rarely_meet_is_found() -> None:
    """Three choices of nine and a number near its end: one draw in some ten thousand."""

    def draw(trial: Suggest) -> None:
        nine = list(range(1, 10))
        trial.suggest_float("optim.lr", 1e-4, 1e-2)
        if trial.suggest_categorical("mining.kind", KINDS) != "range_cut":
            trial.suggest_float("train.ema_decay", 0.9, 0.99)
        elif (
            trial.suggest_categorical("train.batch_size", nine) == 7
            and trial.suggest_categorical("model.tower_depth", nine) == 8
            and trial.suggest_float("mining.max_m", 30.0, 80.0) > 79.9
        ):
            trial.suggest_float("mining.minimum_m", 0.0, 2.0)

    assert message_of(draw) == (
        "space mine.py: mining.minimum_m: is no config path; did you mean mining.min_m?"
    )


def test_two_choices_that_do_not_depend_on_each_other_meet() -> None:
    def draw(trial: Suggest) -> None:
        first = trial.suggest_categorical("mining.kind", KINDS)
        trial.suggest_float("optim.lr", 1e-4, 1e-2)
        trial.suggest_categorical("train.ema_decay", [0.9, 0.99, 0.999])
        if (first, trial.suggest_categorical("train.batch_size", list(range(1, 10)))) == ("lss", 6):
            trial.suggest_int("nowhere", 0, 1)

    assert message_of(draw) == "space mine.py: nowhere: is no config path"


def test_ends_and_an_inner_point_of_ranges_are_parsed() -> None:
    def low(trial: Suggest) -> None:
        trial.suggest_float("optim.lr", 0.0, 1e-2)

    def high(trial: Suggest) -> None:
        trial.suggest_float("train.ema_decay", 0.5, 1.0)

    def inner(trial: Suggest) -> None:
        trial.suggest_float("train.epochs", 4.0, 8.0)

    where = "recipe, space mine.py: "
    assert message_of(low) == f"{where}optim.lr=0.0: Input should be greater than 0"
    assert message_of(high) == f"{where}train.ema_decay=1.0: Input should be less than 1"
    assert message_of(inner) == (
        f"{where}train.epochs=6.47: Input should be a valid integer, got a number with a "
        "fractional part"
    )


def test_a_knob_of_another_kind_fails_on_its_branch() -> None:
    def draw(trial: Suggest) -> None:
        if trial.suggest_categorical("mining.kind", KINDS) == "ohem":
            trial.suggest_float("mining.sharpness", 1.0, 8.0)

    assert message_of(draw) == (
        "recipe, space mine.py: unknown key mining.sharpness where mining.kind=ohem"
    )


def test_settings_that_do_not_agree_fail() -> None:
    """Boxes are compared from an epoch on that this recipe has not."""

    def draw(trial: Suggest) -> Mapping[str, Any]:
        trial.suggest_float("iou_loss.warmup_epochs", 0.0, 4.0)
        return {"iou_loss.kind": "giou"}

    tree = {**TREE, "train": {"epochs": 4}}
    assert check(draw).is_flat
    assert message_of(draw, tree) == (
        "recipe, space mine.py: iou_loss.warmup_epochs=4: it would never count in 4 epochs"
    )


def test_a_path_through_a_value_fails() -> None:
    def draw(trial: Suggest) -> None:
        trial.suggest_float("mining.share", 0.5, 1.0)

    message = "recipe, space mine.py: override mining.share=0.5: mining is a value, not a section"
    assert message_of(draw, {**TREE, "mining": 3}) == message


def test_names_of_ones_own_are_config_paths() -> None:
    folder = {"kind": "nuscenes", "root": "somewhere", "share": 1.0}
    sets = {"mine": folder, "other": folder}
    tree = {
        "data": {"kind": "merged", "class_names": ["car"], "sets": sets},
        "model": {"backbone": {"kind": "config", "model_type": "convnextv2"}},
        "checkpoint": {"metric": "val/centers_depth_abs_rel", "mode": "min"},
    }

    def draw(trial: Suggest) -> Mapping[str, Any]:
        trial.suggest_float("data.sets.mine.share", 0.5, 2.0)
        trial.suggest_float("model.backbone.options.drop_path_rate", 0.0, 0.3)
        return {"data.sets.other.train_split": "half"}

    assert len(check(draw, tree).distributions) == 2
    with pytest.raises(ConfigError, match=r"data\.sets\.mine\.shares: is no config path; did you"):
        check(lambda trial: {"data.sets.mine.shares": 2.0}, tree)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("seed", "--seed and --repeats of the search do"),
        ("cluster.workers", "what a trial asks of Ray is settled before there is one"),
        ("tracking.experiment", "trials of one search are logged together"),
        ("checkpoint.metric", "what is kept of a trial says nothing about how good it is"),
        ("data.val_split", "trials would be measured on other data and could not be compared"),
        ("data.sets.mine.val_split", "trials would be measured on other data"),
        ("data", "trials would be measured on other data"),
        ("evaluation.max_frames", "trials would be measured on other data"),
        ("evaluation.every_epochs", "trials are compared epoch by epoch"),
    ],
)
def test_what_a_search_decides_itself_is_refused_suggested_and_fixed(
    name: str, reason: str
) -> None:
    said = f"space mine.py: {name}: a space may not decide it: {reason}"
    assert message_of(lambda trial: trial.suggest_int(name, 0, 3) and {}).startswith(said)
    assert message_of(lambda trial: {name: 3}).startswith(said)


def test_other_keys_of_such_sections_may_be_searched() -> None:
    def draw(trial: Suggest) -> Mapping[str, Any]:
        trial.suggest_float("evaluation.nms_iou", 0.1, 0.5)
        return {"data.train_split": "mini_train"}

    assert set(check(draw).distributions) == {"evaluation.nms_iou"}


def test_a_space_without_suggestions_is_refused() -> None:
    message = "space mine.py: suggests nothing, so there is nothing to search"
    assert message_of(lambda _: {"optim.lr": 1e-3}) == message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (FloatDistribution(0.1, 1.0), FloatDistribution(0.1, 1.0, log=True)),
        (FloatDistribution(0.1, 1.0), CategoricalDistribution([0.1, 1.0])),
        (CategoricalDistribution([0.5, 1.0]), CategoricalDistribution([0.1, 1.0])),
    ],
    ids=["log", "kind", "choices"],
)
def test_a_name_of_two_sorts_is_refused(one: Any, other: Any) -> None:
    def draw(trial: Suggest) -> None:
        kind = trial.suggest_categorical("mining.kind", ["ohem", "easy_topk"])
        distribution = one if kind == "ohem" else other
        if isinstance(distribution, CategoricalDistribution):
            trial.suggest_categorical("mining.share", distribution.choices)
        else:
            trial.suggest_float(
                "mining.share", distribution.low, distribution.high, log=distribution.log
            )

    said = re.escape(f"space mine.py: mining.share: is {one} on one branch and {other} on another;")
    assert re.match(said, message_of(draw))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "trial.suggest_int('train.epochs', 1, 2)\n    trial.suggest_int('train.epochs', 1, 3)",
            "line 4: ValueError: train.epochs: is suggested twice in one trial, in different ways",
        ),
        (
            "trial.suggest_categorical('model.strides_px', [[8, 16], [8]])",
            "line 3: ValueError: model.strides_px: choices must be texts, numbers, booleans or "
            "None, which a study can keep; [8, 16] is none",
        ),
        (
            "trial.suggest_uniform('optim.lr', 1e-4, 1e-2)",
            "line 3: AttributeError: a space may call suggest_float, suggest_int and "
            "suggest_categorical, not suggest_uniform",
        ),
        (
            "if trial.suggest_categorical('mining.kind', ['none', 'gmm']) == 'gmm':\n"
            "        1 / 0\n    return {}",
            "line 4: ZeroDivisionError: division by zero",
        ),
    ],
)
def test_a_function_that_raises_is_named_by_its_line(
    tmp_path: Path, body: str, message: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f'METRIC, MODE = "val/x", "max"\ndef space(trial):\n    {body}\n')
    with pytest.raises(ConfigError, match=re.escape(f"space {path}, {message}")):
        check_space(load_space(str(path)), TREE, source="recipe")


def test_a_name_twice_in_one_trial_has_one_answer() -> None:
    def draw(trial: Suggest) -> None:
        answers = {trial.suggest_float("optim.lr", 1e-4, 1e-2) for _ in range(2)}
        assert len(answers) == 1

    assert len(check(draw).distributions) == 1


def test_a_recipe_is_left_as_it_is() -> None:
    tree = read_recipe("demo")
    check(lambda trial: trial.suggest_categorical("mining.kind", KINDS) and {}, tree)
    assert tree == read_recipe("demo")


def test_walking_ends_where_everything_is_free() -> None:
    """Forty ranges have more pairs than walks are worth; a bound holds."""
    names = [
        f"loss.{name}"
        for name in ("classification", "offset", "depth", "dims", "velocity", "attribute", "axis")
    ]
    calls = []

    def draw(trial: Suggest) -> None:
        calls.append(1)
        for name in names:
            trial.suggest_float(name, 0.0, 1.0)

    assert check(draw).is_flat
    assert len(calls) <= 2000


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (FloatDistribution(0.0, 1.0), 1.5, 1.0),
        (FloatDistribution(0.0, 1.0), -3, 0.0),
        (FloatDistribution(0.0, 1.0, step=0.25), 0.4, 0.5),
        (FloatDistribution(1e-3, 1.0, log=True), 0.5, 0.5),
        (IntDistribution(10, 30, step=10), 24.9, 20),
        (IntDistribution(1, 100, log=True), 7.6, 8),
    ],
)
def test_the_nearest_number_of_a_range(distribution: Any, value: float, expected: float) -> None:
    found = nearest(distribution, value)
    assert found == expected
    assert isinstance(found, int) == isinstance(distribution, IntDistribution)


def test_inner_points_are_allowed_numbers_between_the_ends() -> None:
    assert inner_point(FloatDistribution(1e-4, 1e-2, log=True)) == 1.72e-3
    assert inner_point(FloatDistribution(0.0, 2.0, step=0.5)) == 1.0
    assert inner_point(IntDistribution(0, 10)) == 6
    assert inner_point(IntDistribution(3, 3)) == 3


def test_a_scripted_trial_keeps_what_it_said() -> None:
    trial = ScriptedTrial(lambda name, _: len(name))
    trial.suggest_int("optim.lr", 0, 20)
    assert trial.params == {"optim.lr": 8}
    assert trial.distributions == {"optim.lr": IntDistribution(0, 20)}
