"""Which settings of a search mattered, and how far that can be told.

fANOVA (Hutter et al., ICML 2014) as Optuna has it: a forest of trees is fitted to the finished
trials, and a knob's share is the part of the forest's variance that this knob makes alone. We
differ in this: a range that is searched by logarithms is measured by them; shares are not blown up
to a sum of one, so that what only combinations explain stays visible; and knobs that only some
trials have, which Optuna leaves out, are judged within the branch that has them.
"""

import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial
from sklearn.ensemble import RandomForestRegressor

from mono3d.search.report.knobs import Knob, shared_knobs
from mono3d.search.report.table import format_setting

MIN_TRIALS = 8
"""Below that nothing is said."""
LEAST_FORETOLD, LEAST_OF_FEW, _FEW = 0.1, 0.2, 30
"""Below that, the second with few trials, the shares are no better than those of noise. Of searches
among pure noise, at most 6 in 100 get there, with 8 to 60 trials and 1 to 10 settings."""
_SEED = 0
_NUM_TREES, _FEWER_TREES, _MANY_TRIALS = 64, 16, 200
"""Optuna walks its trees in Python: 64 of them take 20 s for 1000 trials."""
_MAX_VALUES = 12
"""A whole number with more of them decides no branch."""
_QUIET = threading.Lock()

Target = Callable[[FrozenTrial], float]


@dataclass(frozen=True, kw_only=True)
class Importances:
    """How much each knob mattered among some trials."""

    branch: str
    """`path=value` that these trials have in common; empty for all trials."""
    shares: Mapping[str, float]
    """Knob → share of the variance that it makes alone, the largest first."""
    num_trials: int
    foretold: float
    """Share of the variance of trials that it has not seen that such a forest foretells, 0 to 1."""

    @property
    def is_noise(self) -> bool:
        """Whether the shares are not to be trusted."""
        return self.foretold < (LEAST_OF_FEW if self.num_trials < _FEW else LEAST_FORETOLD)


@dataclass(frozen=True, kw_only=True)
class ImportanceReport:
    """What can be said for one objective."""

    groups: tuple[Importances, ...]
    """Of all trials, then of each branch."""
    left_out: Mapping[str, str]
    """Branch that could not be judged → why; it is empty for all trials."""


def importances(trials: Sequence[FrozenTrial], target: Target) -> ImportanceReport:
    """Importances over all trials, and within each branch of knobs that only some trials have.

    Args:
        trials: Of any state. Only finished ones with a finite target are judged; those stopped
            early help to see which knobs go with which choice.
        target: A trial's value.
    """
    drawn = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    values = {t.number: target(t) for t in drawn if t.state == TrialState.COMPLETE}
    values = {number: value for number, value in values.items() if math.isfinite(value)}
    names = {name for trial in drawn for name in trial.params}
    groups: list[Importances] = []
    left_out: dict[str, str] = {}
    for branch, members in [("", drawn), *_branches(drawn, names)]:
        own = [trial for trial in members if trial.number in values]
        found = shared_knobs(own)
        if reason := _reason(own, found, values):
            left_out[branch] = reason
        else:
            groups.append(_judge(branch, own, found, [values[trial.number] for trial in own]))
    return ImportanceReport(groups=tuple(groups), left_out=left_out)


def _reason(
    trials: Sequence[FrozenTrial], found: Collection[Knob], values: Mapping[int, float]
) -> str | None:
    """Why nothing can be said."""
    if len(trials) < MIN_TRIALS:
        return f"{len(trials)} finished, {MIN_TRIALS} needed"
    if not found:
        return "no setting that all trials have differs between them"
    if len({values[trial.number] for trial in trials}) == 1:
        return f"all {len(trials)} finished trials have the same value"
    return None


def _branches(
    trials: Sequence[FrozenTrial], names: Collection[str], above: str = ""
) -> Iterator[tuple[str, list[FrozenTrial]]]:
    """Each choice that brings knobs of its own, and the trials that made it; nested ones after.

    Args:
        trials: Among which to look.
        names: Knobs to find the branches of; those that all trials have are in none.
        above: Settings that these trials have in common.
    """
    deciders = [knob.name for knob in shared_knobs(trials) if _is_discrete(knob, trials)]
    partial = [name for name in names if not all(name in trial.params for trial in trials)]
    decider_of = {name: _decider(name, deciders, trials) for name in partial}
    unclear = [name for name in partial if decider_of[name] is None]
    for decider in deciders:
        brought = [name for name in partial if decider_of[name] == decider]
        for setting, own in _split(decider, trials).items():
            if any(name in own[0].params for name in brought):
                branch = f"{above} {decider}={setting}".strip()
                yield branch, own
                inner = [name for name in unclear if any(name in trial.params for trial in own)]
                yield from _branches(own, inner, branch)


def _decider(name: str, deciders: Sequence[str], trials: Sequence[FrozenTrial]) -> str | None:
    """The knob that says whether a trial has another, by name the nearest of those that could."""
    fitting = [
        decider
        for decider in deciders
        if all(
            len({name in trial.params for trial in own}) == 1
            for own in _split(decider, trials).values()
        )
    ]
    return max(fitting, key=lambda decider: _num_shared(decider, name), default=None)


def _num_shared(path: str, other: str) -> int:
    """How many sections, from the outermost one, two config paths share."""
    pairs = list(zip(path.split("."), other.split("."), strict=False))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))


def _split(decider: str, trials: Sequence[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    """Setting → the trials that have it."""
    parts: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        parts.setdefault(format_setting(trial.params[decider]), []).append(trial)
    return parts


def _is_discrete(knob: Knob, trials: Sequence[FrozenTrial]) -> bool:
    if knob.choices is not None:
        return True
    return knob.is_whole and len({trial.params[knob.name] for trial in trials}) <= _MAX_VALUES


def _judge(
    branch: str, trials: Sequence[FrozenTrial], found: Sequence[Knob], values: Sequence[float]
) -> Importances:
    num_trees = _NUM_TREES if len(trials) < _MANY_TRIALS else _FEWER_TREES
    evaluator = FanovaImportanceEvaluator(n_trees=num_trees, seed=_SEED)
    shares = evaluator.evaluate(_on_scales(trials, found, values))
    forest = RandomForestRegressor(num_trees, oob_score=True, random_state=_SEED)
    columns = [column for knob in found for column in _columns(knob, trials)]
    forest.fit(np.array(columns).T, np.array(values))
    return Importances(
        branch=branch,
        shares=dict(sorted(shares.items(), key=lambda item: -item[1])),
        num_trials=len(trials),
        foretold=float(np.clip(forest.oob_score_, 0, 1)),
    )


def _columns(knob: Knob, trials: Sequence[FrozenTrial]) -> list[list[float]]:
    """A number's coordinates; of a choice one column each that says whether it was made."""
    places = [knob.coordinate(trial.params[knob.name]) for trial in trials]
    if knob.choices is None:
        return [places]
    return [[float(place == index) for place in places] for index in range(len(knob.choices))]


def _on_scales(
    trials: Sequence[FrozenTrial], found: Sequence[Knob], values: Sequence[float]
) -> optuna.Study:
    """A study in memory of these trials and knobs alone, numbers by their coordinates."""
    scales = {
        knob.name: FloatDistribution(*knob.ends)
        if knob.choices is None
        else CategoricalDistribution(list(knob.choices))
        for knob in found
    }
    with _QUIET:  # Optuna says of each study that it was created
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = optuna.create_study()
        finally:
            optuna.logging.set_verbosity(verbosity)
    study.add_trials(
        create_trial(
            params={
                knob.name: repr(trial.params[knob.name])
                if knob.choices is not None
                else knob.coordinate(trial.params[knob.name])
                for knob in found
            },
            distributions=scales,
            value=value,
        )
        for trial, value in zip(trials, values, strict=True)
    )
    return study
