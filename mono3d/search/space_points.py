"""Given trials of a space: what the recipe itself is, and what earlier runs were."""

import math
from collections.abc import Mapping
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution

from mono3d.config.load import apply_overrides, parse, read_yaml
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.search.space import Space, overrides_of
from mono3d.search.space_walk import ScriptedTrial, inner_point, nearest

_ABSENT = object()


def defaults_of(space: Space, config: RunConfig) -> dict[str, Any]:
    """The recipe as a trial of a space, for `study.enqueue_trial`: name → value.

    A number out of its range becomes the nearest in it; a choice that the space has not, or that
    the recipe says nothing of, becomes the first one. Where the space has another kind of a section
    than the recipe, numbers are that kind's defaults.

    Raises:
        ConfigError: As `overrides_of`.
    """
    tree = config.model_dump(mode="json")
    trial, overrides = _near(space, tree)
    chosen = [
        (name, value)
        for name, value in overrides
        if isinstance(trial.distributions.get(name), CategoricalDistribution | None)
    ]
    try:
        tree = parse(apply_overrides(tree, chosen), source=space.source).model_dump(mode="json")
    except ConfigError:
        # What is chosen needs other numbers too: those of the first draw are near enough.
        return trial.params
    return _near(space, tree)[0].params


def params_from(
    space: Space, values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """An earlier run as a trial of a space, for `optuna.trial.create_trial`.

    Args:
        space: Of the search that shall know it.
        values: Config path → value of the run, or its text, as MLflow's params have it. What the
            space says nothing of does not count.

    Returns:
        What the space suggests on the run's branch: name → value, name → distribution.

    Raises:
        ConfigError: The run is none of the space: a value is missing, outside of its range, or
            another than is fixed there.
    """

    def answer(name: str, distribution: BaseDistribution) -> Any:
        if name not in values:
            raise ConfigError(f"space {space.source}: {name}: is missing")
        for value in _readings(values[name]):
            inside = _inside(distribution, value)
            if inside is not _ABSENT:
                return inside
        raise ConfigError(
            f"space {space.source}: {name}={values[name]}: is not in {_in_words(distribution)}"
        )

    trial = ScriptedTrial(answer)
    for name, fixed in overrides_of(space, trial):
        own = list(fixed) if isinstance(fixed, tuple) else fixed
        if name not in trial.params and name in values and own not in _readings(values[name]):
            raise ConfigError(f"space {space.source}: {name}={values[name]}: is fixed at {fixed}")
    return trial.params, trial.distributions


def _near(space: Space, tree: Mapping[str, Any]) -> tuple[ScriptedTrial, list[tuple[str, Any]]]:
    """The draw that is nearest to a config."""

    def answer(name: str, distribution: BaseDistribution) -> Any:
        value = _value_at(tree, name)
        if isinstance(distribution, CategoricalDistribution):
            inside = _inside(distribution, value)
            return distribution.choices[0] if inside is _ABSENT else inside
        return nearest(distribution, value) if _is_number(value) else inner_point(distribution)

    trial = ScriptedTrial(answer)
    return trial, overrides_of(space, trial)


def _value_at(tree: Mapping[str, Any], path: str) -> Any:
    node: Any = tree
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return _ABSENT
        node = node[part]
    return node


def _inside(distribution: BaseDistribution, value: Any) -> Any:
    """A value as the distribution has it; `_ABSENT` if it has not."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if choice == value), _ABSENT)
    if not _is_number(value):
        return _ABSENT
    allowed = nearest(distribution, value)
    return allowed if math.isclose(allowed, value, rel_tol=1e-9, abs_tol=1e-12) else _ABSENT


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _readings(value: Any) -> list[Any]:
    """A value, and what it says if it is a text."""
    if not isinstance(value, str):
        return [value]
    try:
        return [value, read_yaml(value)]
    except yaml.YAMLError:
        return [value]


def _in_words(distribution: Any) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(str(choice) for choice in distribution.choices)
    step = distribution.step
    steps = "" if step is None or step == 1 else f" in steps of {step:g}"
    return f"{distribution.low:g} to {distribution.high:g}{steps}"
