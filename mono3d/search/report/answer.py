"""What a search says, in plain sentences that claim no more than it shows."""

from statistics import median

from mono3d.comparison.paired import compare
from mono3d.search.report.importance import Importances
from mono3d.search.report.table import Goal, RankedTrial, format_value
from mono3d.search.report.view import SearchView

_MOST_LISTED = 8
"""Pareto-optimal trials in the answer; the table has all."""
_MOST_NAMED = 3
"""Settings that mattered, in a sentence."""
_LEAST = 0.01
"""Share of the variance that is worth a word."""


def answer(view: SearchView, best_recipe: str | None = None) -> list[str]:
    """The best trial, or the Pareto-optimal ones, against the recipe's own settings.

    Args:
        view: The search.
        best_recipe: What the file with the best trial's settings is to be called.
    """
    if not view.usable:
        return ["No trial has a result yet."]
    lines = _one(view) if len(view.goals) == 1 else _several(view)
    lines += _mattered(view)
    if best_recipe is not None:
        lines.append(f"Trial {view.usable[0].number} as a recipe: {best_recipe}")
    return lines


def mattered(group: Importances) -> str:
    """What mattered among some trials, and what that stands on."""
    where = f" where {group.branch}" if group.branch else ""
    stands = f"{group.num_trials} finished trials{where}"
    if group.is_noise:
        return f"{stands}: too few, or too alike, to tell what mattered"
    foretold = f"{100 * group.foretold:.0f} % of unseen trials' variance"
    if len(group.shares) == 1:
        only = next(iter(group.shares))
        return f"{stands}: {only}, the only setting that all have, foretells {foretold}"
    top = list(group.shares.items())[:_MOST_NAMED]
    named = [
        f"{n} ({100 * s:.0f} %)" for place, (n, s) in enumerate(top) if s > _LEAST or not place
    ]
    return f"{stands}: {', '.join(named)} of the variance; {foretold} is foretold"


def _one(view: SearchView) -> list[str]:
    best, goal, own = view.usable[0], view.goals[0], view.default
    source = f" ({best.reason}; not run here)" if best.state == "imported" else ""
    lines = [
        f"Best of {_counted(len(view.usable))}: trial {best.number}{source} with {goal.words} "
        f"{_value(best, 0)}."
    ]
    if own is None:
        return [
            *lines,
            "The recipe's own settings have no result, so nothing says whether the search gained "
            "anything.",
        ]
    if own.rank == 1:
        return [*lines, "The recipe's own settings were not beaten: the search found none better."]
    change = abs(best.values[0] - own.values[0])
    share = f" ({100 * change / abs(own.values[0]):.1f} %)" if own.values[0] else ""
    return [
        *lines,
        f"That is {format_value(change)}{share} better than the recipe's own settings (trial "
        f"{own.number}: {_value(own, 0)}).",
        _how_sure(view, best, own),
        f"The best of {len(view.usable)} was chosen by the very values that it is judged by, which "
        "flatters it: mono3d study with other seeds tells what is left of the difference.",
    ]


def _how_sure(view: SearchView, best: RankedTrial, own: RankedTrial) -> str:
    """What repeats with other seeds say of the difference."""
    has_pairs = len(best.repeats) == len(own.repeats) > 1 and best.state == own.state
    if not has_pairs:
        spreads = [row.spread[0] for row in view.usable if row.spread is not None]
        known = "none were made"
        if spreads:
            known = f"where they were made, seeds differ by {format_value(median(spreads))}"
        return f"With one seed a difference is noise unless repeats say otherwise; {known}."
    goal = view.goals[0]
    (found,) = compare(
        "best",
        _by_seed(goal, best),
        _by_seed(goal, own),
        declared=goal.metric,
        less_is_better=lambda _: goal.less_is_better,
    )
    verdict = "more than seeds explain" if found.verdict == "gain" else "which seeds alone may make"
    change = f"{'-' if found.mean < 0 else '+'}{format_value(abs(found.mean))}"
    width = format_value(found.half_width or 0.0)
    return (
        f"Seed by seed the difference is {change} ± {width} (95 %, {len(found.seeds)} seeds), "
        f"{verdict}."
    )


def _by_seed(goal: Goal, row: RankedTrial) -> dict[int, dict[str, float]]:
    return {place: {goal.metric: values[0]} for place, values in enumerate(row.repeats)}


def _several(view: SearchView) -> list[str]:
    front = [row for row in view.usable if row.rank == 1]
    verb = "is" if len(front) == 1 else "are"
    lines = [
        f"{len(front)} of {_counted(len(view.usable))} {verb} Pareto-optimal: no other is as good "
        "in all objectives and better in one."
    ]
    for row in front[:_MOST_LISTED]:
        values = ", ".join(
            f"{goal.words} {_value(row, index)}" for index, goal in enumerate(view.goals)
        )
        lines.append(f"Trial {row.number}: {values}{' (the recipe)' * row.is_default}.")
    if len(front) > _MOST_LISTED:
        lines.append(f"And {len(front) - _MOST_LISTED} more, in the table.")
    return [*lines, _against_own(view, front), *_caution(view)]


def _against_own(view: SearchView, front: list[RankedTrial]) -> str:
    own = view.default
    if own is None:
        return (
            "The recipe's own settings have no result, so nothing says whether the search gained "
            "anything."
        )
    if own.rank == 1:
        return "The recipe's own settings are among them."
    beats = [str(row.number) for row in front if _is_beaten(view, own, row)]
    said = f"trials {', '.join(beats)} beat" if len(beats) > 1 else f"trial {beats[0]} beats"
    return f"The recipe's own settings are not: {said} them."


def _is_beaten(view: SearchView, own: RankedTrial, other: RankedTrial) -> bool:
    pairs = zip(view.goals, own.values, other.values, strict=True)
    return all(goal.loss(theirs) <= goal.loss(mine) for goal, mine, theirs in pairs)


def _caution(view: SearchView) -> list[str]:
    spreads = [row.spread for row in view.usable if row.spread is not None]
    if not spreads:
        return ["With one seed small differences are noise, and who is Pareto-optimal with them."]
    typical = ", ".join(
        f"{goal.words} {format_value(median(column))}"
        for goal, column in zip(view.goals, zip(*spreads, strict=True), strict=True)
    )
    return [f"Between seeds results differ by (standard deviation): {typical}."]


def _mattered(view: SearchView) -> list[str]:
    """The settings that mattered most, of all trials."""
    return [
        f"What mattered{' for ' + goal.words if len(view.goals) > 1 else ''}, among "
        f"{mattered(group)}."
        for goal, report in zip(view.goals, view.importances, strict=True)
        for group in report.groups[:1]
    ]


def _counted(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'} with a result"


def _value(row: RankedTrial, index: int) -> str:
    text = format_value(row.values[index])
    if row.spread is None:
        return text
    return f"{text} ± {row.spread[index]:.2g} over {len(row.repeats)} seeds"
