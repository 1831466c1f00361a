"""What pictures of a search are drawn from; read once from its database."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from mono3d.search.report.importance import ImportanceReport, importances
from mono3d.search.report.knobs import Knob, knobs
from mono3d.search.report.look import HIGHLIGHTS, OWN, Limits, value_limits
from mono3d.search.report.table import (
    Goal,
    RankedTrial,
    default_of,
    goals_of,
    has_own_result,
    ranked,
)


@dataclass(frozen=True, kw_only=True)
class SearchView:
    """A search as pictures need it."""

    goals: tuple[Goal, ...]
    rows: tuple[RankedTrial, ...]
    """All trials, as `ranked` has them."""
    knobs: tuple[Knob, ...]
    """What trials differ in: first what all have, then what most have."""
    importances: tuple[ImportanceReport, ...]
    """One an objective."""

    @property
    def usable(self) -> tuple[RankedTrial, ...]:
        """The trials with a finite result, the best first."""
        return tuple(row for row in self.rows if row.is_usable)

    @property
    def default(self) -> RankedTrial | None:
        """The recipe's own settings, if they have a result."""
        return default_of(self.rows)

    def in_state(self, *states: str) -> list[RankedTrial]:
        """The trials in these states, in the order in which they were begun."""
        return sorted((row for row in self.rows if row.state in states), key=lambda row: row.number)

    def limits(self, goal: int) -> Limits:
        """Of an axis of that objective's results."""
        return value_limits([row.values[goal] for row in self.usable], self.goals[goal])

    def marks(self, state: str, goal: int) -> list[tuple[RankedTrial, float]]:
        """Trials in a state and where they stand on the axis of an objective's results.

        At the worse end stand those that failed or reported no number, and what is beyond it.
        """
        limits = self.limits(goal)
        end = limits.worse_end(self.goals[goal])
        found = []
        for row in self.in_state(state):
            value = row.values[goal] if goal < len(row.values) else math.nan
            has_value = state != "failed" and not math.isnan(value)
            if has_value or state in ("failed", "stopped early"):
                found.append((row, limits.hold(value) if has_value else end))
        return found

    def foremost(self, limit: int) -> list[Knob]:
        """At most that many knobs of finished trials: the most important ones, or the first."""
        shares: dict[str, float] = {}
        for report in self.importances:
            for group in report.groups:
                for name, share in group.shares.items():
                    shares[name] = max(share, shares.get(name, 0.0))
        usable = self.usable
        tried = [k for k in self.knobs if sum(k.name in row.params for row in usable) > 1]
        kept = sorted(tried, key=lambda knob: -shares.get(knob.name, 0.0))[:limit]
        return [knob for knob in self.knobs if knob in kept]

    def picked(self) -> dict[int, str]:
        """Colours of the trials whose curves are to be seen: the best ones, the recipe's own."""
        best = [row.number for row in self.usable if row.reported][: len(HIGHLIGHTS)]
        colors = dict(zip(best, HIGHLIGHTS, strict=False))
        own = [row.number for row in self.rows if row.is_default]
        return colors | {number: OWN for number in own[:1] if number not in colors}

    def curves(self) -> Iterator[tuple[RankedTrial, list[int], list[float]]]:
        """Each trial that was evaluated on the way, the worst first, with epochs and values."""
        for row in reversed(self.rows):
            points = {e: v for e, v in row.reported.items() if math.isfinite(v)}
            if points:
                yield row, list(points), list(points.values())


def view(study: Study) -> SearchView:
    """Read a study."""
    goals = goals_of(study)
    trials = study.get_trials(deepcopy=False)
    drawn = [t for t in trials if has_own_result(t) or t.state == TrialState.PRUNED]
    found = sorted(knobs(drawn), key=lambda knob: -sum(knob.name in t.params for t in drawn))
    return SearchView(
        goals=goals,
        rows=tuple(ranked(study)),
        knobs=tuple(found),
        importances=tuple(importances(drawn, partial(_value, goal)) for goal in range(len(goals))),
    )


def _value(goal: int, trial: FrozenTrial) -> float:
    return float(trial.values[goal])
