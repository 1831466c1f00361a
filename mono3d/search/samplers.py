"""Who proposes trials and who stops them early: Optuna's samplers and pruners by their names.

Both keep what they know in the study's database alone. A sampler is made anew for each trial, with
a seed of its own: what is proposed follows from the database and the trial's number, so a search
that was killed proposes what it would have proposed.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import optuna
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import StudyDirection

from mono3d.errors import ConfigError
from mono3d.search.settings import SamplerKind, SearchSettings
from mono3d.search.space import SpaceShape

_MEDIAN_OF = 4
"""Trials that must have come as far before the median rule stops one."""


def check_sampler(kind: SamplerKind, shape: SpaceShape) -> None:
    """Refuse a sampler that cannot search a space.

    Raises:
        ConfigError: CMA-ES and grid know no branches, CMA-ES no choices.
    """
    if kind not in {"cmaes", "grid"}:
        return
    if not shape.is_flat:
        raise ConfigError(
            f"--sampler {kind}: needs a flat space, and this one has branches; take tpe, gp, "
            "nsga2 or random"
        )
    if kind == "cmaes" and not shape.is_numeric:
        raise ConfigError(
            "--sampler cmaes: needs numbers only, and this space has choices; take tpe, gp or grid"
        )
    if kind == "cmaes" and len(shape.distributions) < 2:
        raise ConfigError("--sampler cmaes: needs two numbers or more; take tpe or grid")


def make_sampler(settings: SearchSettings, shape: SpaceShape, number: int) -> BaseSampler:
    """The sampler that proposes the trial of this number."""
    seed = settings.seed * 100_003 + number
    kind = settings.sampler
    with warnings.catch_warnings():
        # Multivariate and group are called experimental at Optuna 5.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match kind:
            case "tpe":
                return TPESampler(
                    multivariate=True, group=True, constant_liar=True, n_startup_trials=8, seed=seed
                )
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=8, warn_independent_sampling=False)
            case "random":
                return RandomSampler(seed=seed)
            case "cmaes":
                return _CmaEs(seed=seed, warn_independent_sampling=False)
            case "grid":
                # Its seed is the order of the points, the same for all trials.
                return _Grid(grid_of(shape.distributions, settings.grid_points), seed=settings.seed)
            case "nsga2":
                return NSGAIISampler(population_size=settings.population, seed=seed)
            case _:
                assert_never(kind)


class _CmaEs(CmaEsSampler):  # type: ignore[misc]
    """Optuna's, without the state that it pickles into the database and unpickles from there.

    Who may write the database could have code executed by that. The state follows from the trials,
    so it is made of them anew.
    """

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        """As Optuna's."""
        self._study, self._space = study, search_space
        values: dict[str, Any] = super().sample_relative(study, trial, search_space)
        return values

    def _restore_optimizer(self, completed_trials: list[Any]) -> Any:
        """All generations but the last told again; Optuna then has none to tell, or to store."""
        bounds = _SearchSpaceTransform(self._space, transform_step=True, transform_0_1=True)
        direction = self._study.direction
        optimizer = self._init_optimizer(bounds, direction)
        sign = 1 if direction == StudyDirection.MINIMIZE else -1
        size = optimizer.population_size
        while True:
            told = self._get_solution_trials(completed_trials, optimizer.generation)[:size]
            if optimizer.dim != len(bounds.bounds) or len(told) < size:
                return optimizer
            optimizer.tell([(bounds.transform(each.params), sign * each.value) for each in told])


class _Grid(GridSampler):  # type: ignore[misc]
    """Optuna's, which at its end stops the loop that it takes to be Optuna's own."""

    def after_trial(self, *_: Any) -> None:
        """Nothing: who proposes counts."""


def make_pruner(settings: SearchSettings, epochs: int) -> BasePruner:
    """The pruner; its resource is epochs.

    Args:
        settings: Of the search.
        epochs: Of a trial that is not stopped.
    """
    grace, kind = settings.grace_epochs, settings.scheduler
    match kind:
        case "asha":
            return SuccessiveHalvingPruner(min_resource=grace, reduction_factor=settings.reduction)
        case "median":
            return MedianPruner(n_startup_trials=_MEDIAN_OF, n_warmup_steps=grace)
        case "hyperband":
            return HyperbandPruner(
                min_resource=grace, max_resource=epochs, reduction_factor=settings.reduction
            )
        case "none":
            return NopPruner()
        case _:
            assert_never(kind)


def grid_of(distributions: Mapping[str, BaseDistribution], points: int) -> dict[str, Sequence[Any]]:
    """Name → values of a grid: all that there are, or `points` spread over a range without steps.

    A range of whole numbers or steps with more than `points` values is thinned to so many.
    """
    return {name: _values(distribution, points) for name, distribution in distributions.items()}


def grid_size(settings: SearchSettings, shape: SpaceShape) -> int:
    """Trials that a grid has."""
    grid = grid_of(shape.distributions, settings.grid_points)
    return math.prod(len(values) for values in grid.values())


def _values(distribution: BaseDistribution, points: int) -> list[Any]:
    match distribution:
        case CategoricalDistribution():
            return list(distribution.choices)
        case IntDistribution():
            count = (distribution.high - distribution.low) // distribution.step + 1
            steps = _spread(0.0, count - 1.0, min(points, count), is_log=False)
            return [distribution.low + round(step) * distribution.step for step in steps]
        case FloatDistribution(step=None):
            return _spread(distribution.low, distribution.high, points, is_log=distribution.log)
        case FloatDistribution():
            count = round((distribution.high - distribution.low) / distribution.step) + 1
            steps = _spread(0.0, count - 1.0, min(points, count), is_log=False)
            return [distribution.low + round(step) * distribution.step for step in steps]
    raise TypeError(f"no grid over {distribution}")


def _spread(low: float, high: float, points: int, *, is_log: bool) -> list[float]:
    """Evenly spread, the ends among them."""
    if points == 1 or low == high:
        return [low]
    if is_log:
        logs = _spread(math.log(low), math.log(high), points, is_log=False)
        return [low, *map(math.exp, logs[1:-1]), high]
    return [*(low + (high - low) * i / (points - 1) for i in range(points - 1)), high]
