import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mono3d.errors import ConfigError
from mono3d.search.samplers import check_sampler, grid_of, grid_size, make_pruner
from mono3d.search.settings import Budget
from mono3d.search.space import Objective, Space, SpaceShape
from tests.support.searches import METRIC, new_record, settings, shape_of, sqlite_url

FLAT = {
    "optim.lr": FloatDistribution(1e-4, 1e-2, log=True),
    "optim.weight_decay": FloatDistribution(0.0, 0.1),
}


def shape(is_flat: bool = True, **more: Any) -> SpaceShape:
    distributions = {**FLAT, **more}
    numeric = all(not isinstance(d, CategoricalDistribution) for d in distributions.values())
    return SpaceShape(distributions=distributions, is_flat=is_flat, is_numeric=numeric, digest="")


@pytest.mark.parametrize("kind", ["tpe", "gp", "random", "nsga2"])
def test_most_samplers_search_any_space(kind: Any) -> None:
    check_sampler(kind, shape(is_flat=False, kind=CategoricalDistribution(["a", "b"])))


@pytest.mark.parametrize(
    ("kind", "of", "message"),
    [
        ("cmaes", shape(is_flat=False), "--sampler cmaes: needs a flat space"),
        ("grid", shape(is_flat=False), "--sampler grid: needs a flat space"),
        (
            "cmaes",
            shape(kind=CategoricalDistribution(["a", "b"])),
            "--sampler cmaes: needs numbers only",
        ),
        (
            "cmaes",
            SpaceShape(
                distributions={"optim.lr": FLAT["optim.lr"]},
                is_flat=True,
                is_numeric=True,
                digest="",
            ),
            "needs two numbers",
        ),
    ],
)
def test_others_say_what_they_cannot_search(kind: Any, of: SpaceShape, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_sampler(kind, of)


def test_a_grid_has_the_ends_and_what_lies_evenly_between() -> None:
    grid = grid_of(
        {
            "rate": FloatDistribution(1e-4, 1e-2, log=True),
            "share": FloatDistribution(0.0, 1.0),
            "stepped": FloatDistribution(0.0, 0.5, step=0.25),
            "count": IntDistribution(1, 9, step=2),
            "few": IntDistribution(3, 4),
            "kind": CategoricalDistribution(["a", None, True]),
        },
        points=3,
    )
    assert grid["rate"] == [1e-4, pytest.approx(1e-3), 1e-2]
    assert grid["share"] == [0.0, 0.5, 1.0]
    assert grid["stepped"] == [0.0, 0.25, 0.5]
    assert grid["count"] == [1, 5, 9]
    assert grid["few"] == [3, 4]
    assert grid["kind"] == ["a", None, True]
    assert grid_size(settings(sampler="grid"), shape()) == 9


def flat(trial: Any) -> dict[str, object]:
    trial.suggest_float("optim.lr", 1e-4, 1e-2, log=True)
    trial.suggest_float("optim.weight_decay", 0.0, 0.1)
    return {}


FLAT_SPACE = Space(
    source="flat.py",
    digest="0" * 64,
    about="",
    objectives=(Objective(metric=METRIC, mode="min"),),
    draw=flat,
)


@pytest.mark.parametrize(("sampler", "budget", "trials"), [("grid", 99, 9), ("cmaes", 8, 8)])
def test_a_flat_space_is_searched_by_grid_and_cma_es(
    sampler: str, budget: int, trials: int, tmp_path: Path
) -> None:
    """A grid ends with its last point."""
    record = new_record(
        sqlite_url(tmp_path), space=FLAT_SPACE, sampler=sampler, budget={"trials": budget}
    )
    drawn = set()
    while (proposal := record.propose()) is not None:
        rate = proposal.settings["optim.lr"]
        drawn.add((rate, proposal.settings["optim.weight_decay"]))
        record.finish(proposal.number, [[abs(math.log(rate / 1e-3))]])
    assert len(drawn) == trials


@pytest.mark.slow
def test_a_good_rate_is_found_by_tpe_sooner_than_by_chance(tmp_path: Path) -> None:
    best = {}
    for sampler in ("tpe", "random"):
        values = []
        for seed in range(3):
            record = new_record(
                sqlite_url(tmp_path), f"{sampler}{seed}", space=FLAT_SPACE, sampler=sampler,
                seed=seed, budget={"trials": 30},
            )  # fmt: skip
            while (proposal := record.propose()) is not None:
                error = abs(math.log(proposal.settings["optim.lr"] / 1e-3))
                error += abs(proposal.settings["optim.weight_decay"] - 0.03) * 30
                record.finish(proposal.number, [[error]])
            values.append(record.study.best_value)
        best[sampler] = sum(values) / len(values)
    assert best["tpe"] < best["random"]


@pytest.mark.parametrize(
    ("scheduler", "kind"),
    [
        ("asha", optuna.pruners.SuccessiveHalvingPruner),
        ("hyperband", optuna.pruners.HyperbandPruner),
        ("median", optuna.pruners.MedianPruner),
        ("none", optuna.pruners.NopPruner),
    ],
)
def test_bad_curves_are_stopped_by_every_rule_and_good_ones_by_none(
    scheduler: str, kind: type, tmp_path: Path
) -> None:
    assert isinstance(make_pruner(settings(scheduler=scheduler), 9), kind)
    record = new_record(
        sqlite_url(tmp_path), scheduler=scheduler, sampler="random", budget={"trials": 24}
    )
    stopped: dict[bool, int] = {True: 0, False: 0}
    while (proposal := record.propose()) is not None:
        is_good = proposal.number % 3 == 0
        for epoch in range(1, 9):
            value = (0.1 if is_good else 0.5) + proposal.number * 1e-4 * (-1 if is_good else 1)
            if record.is_bad(proposal.number, epoch, value):
                stopped[is_good] += 1
                record.stop(proposal.number, "worse")
                break
        else:
            record.finish(proposal.number, [[value]])
    assert stopped[False] == 0 if scheduler == "none" else stopped[False] >= 8
    assert stopped[True] == 0


def test_several_objectives_are_searched_without_early_stopping(tmp_path: Path) -> None:
    record = new_record(
        sqlite_url(tmp_path), sampler="nsga2", scheduler="none", budget={"trials": 12},
        objectives={METRIC: "min", "val/nuscenes_map": "max"},
    )  # fmt: skip
    while (proposal := record.propose()) is not None:
        rate = proposal.settings["optim.lr"]
        assert not record.is_bad(proposal.number, 1, rate)
        record.finish(proposal.number, [[rate, rate]])
    assert len(record.study.best_trials) > 1
    record.raise_budget(Budget(trials=13, hours=None, gpu_hours=None))
    last = record.propose()
    assert last is not None
    record.stop(last.number, "the budget was spent")
    assert record.trial(last.number).state == optuna.trial.TrialState.PRUNED
    assert shape_of().is_flat is False
