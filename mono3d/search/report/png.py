"""A search's results in pictures, as files: one matplotlib Figure each, without pyplot."""

from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mono3d.search.report import look
from mono3d.search.report.look import better, legend, literal, plain, trial_name, value_limits
from mono3d.search.report.view import SearchView

_MARKS: dict[str, dict[str, Any]] = {
    "finished": {"color": look.FINISHED, "marker": "o", "ms": 5},
    "imported": {"color": look.IMPORTED, "marker": "D", "ms": 5},
    "stopped early": {"color": look.STOPPED, "marker": "x", "ms": 5},
    "running": {"color": look.RUNNING, "marker": "^", "ms": 6},
    "failed": {"color": look.FAILED, "marker": "|", "ms": 9},
}
_CURVES: dict[str, dict[str, Any]] = {
    "finished": {"color": look.PALE, "lw": 1.0},
    "imported": {"color": look.IMPORTED, "lw": 1.0},
    "stopped early": {"color": look.STOPPED, "lw": 0.9, "alpha": 0.7},
    "running": {"color": look.RUNNING, "lw": 1.4},
    "failed": {"color": look.FAILED, "lw": 0.9, "ls": ":"},
    "waiting": {"color": look.NOISE},
}
MAX_PAIRS = 6
"""Of objectives."""
_MOST_NAMED = 20
"""Pareto-optimal trials; the numbers of more of them cover each other."""


def history(view: SearchView) -> Figure:
    """Each trial's result, in the order of the trials, and the best until then."""
    count = len(view.goals)
    figure = Figure(figsize=(9.0, 3.4 * count + 0.3), layout="constrained")
    for index, axes in enumerate(figure.subplots(count, 1, squeeze=False)[:, 0]):
        _history_panel(axes, view, index)
    figure.axes[-1].set_xlabel("trial", fontsize=10)
    legend(figure.axes[0])
    return figure


def _history_panel(axes: Axes, view: SearchView, index: int) -> None:
    limits = view.limits(index)
    plain(axes, view.goals[index], limits)
    done = sorted(view.usable, key=lambda row: row.number)
    bests = np.minimum.accumulate([view.goals[index].loss(row.values[index]) for row in done])
    sign = 1 if view.goals[index].less_is_better else -1
    numbers = [row.number for row in done]
    axes.step(numbers, sign * bests, where="post", color=look.BEST, lw=1.4, label="best so far")
    if view.default is not None:
        value = view.default.values[index]
        axes.axhline(value, color=look.OWN, ls="--", lw=1.2, label="the recipe's own settings")
    for state, style in _MARKS.items():
        if marks := view.marks(state, index):
            places, values = [row.number for row, _ in marks], [value for _, value in marks]
            axes.plot(places, values, ls="", label=state, clip_on=False, zorder=3, **style)
    rows = [row for row in done if row.spread is not None]
    values = [row.values[index] for row in rows]
    spreads = [row.spread[index] for row in rows if row.spread is not None]
    places = [row.number for row in rows]
    axes.errorbar(places, values, spreads, fmt="none", ecolor=look.FINISHED, elinewidth=1)
    axes.set_xlim(-0.8, max(row.number for row in view.rows) + 0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def learning_curves(view: SearchView) -> Figure:
    """What each trial reported on the way, with the best and the recipe's own picked out."""
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    curves = list(view.curves())
    every = [value for _, _, values in curves for value in values]
    plain(axes, view.goals[0], value_limits(every, view.goals[0]))
    picked = view.picked()
    for row, epochs, values in curves:
        state, color = _CURVES[row.state], picked.get(row.number)
        style = state if color is None else {"color": color, "lw": 2.2, "zorder": 3}
        axes.plot(epochs, values, marker=".", ms=3, **style)
        if row.state in ("stopped early", "failed"):
            axes.plot(epochs[-1], values[-1], "x", ms=6, color=state["color"])
    for row in view.rows:
        if row.number in picked:
            axes.plot([], [], lw=2.2, color=picked[row.number], label=trial_name(row))
    for shown in dict.fromkeys(row.state for row, _, _ in reversed(curves)):
        axes.plot([], [], label=shown, **_CURVES[shown])
    axes.set_xlabel("epoch", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)
    return figure


def pareto_front(view: SearchView) -> Figure:
    """Each pair of objectives: trials that none beats in all objectives, and the others."""
    pairs = list(combinations(range(len(view.goals)), 2))[:MAX_PAIRS]
    columns = min(3, len(pairs))
    lines = -(-len(pairs) // columns)
    figure = Figure(figsize=(4.6 * columns + 2.0, 4.0 * lines + 0.3), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False)
    for index, axes in enumerate(panels.flat):
        if index < len(pairs):
            _pair(axes, view, *pairs[index])
        else:
            axes.set_visible(False)
    legend(panels[0, -1])
    return figure


def _pair(axes: Axes, view: SearchView, first: int, second: int) -> None:
    across, up = view.limits(first), view.limits(second)
    plain(axes, view.goals[second], up)
    goal = view.goals[first]
    axes.set_xlabel(f"{literal(goal.words)} ({better(goal)})", fontsize=10)
    axes.set_xlim(across.low, across.high)
    kinds: tuple[tuple[str, bool, dict[str, Any]], ...] = (
        ("beaten by another", False, {"color": look.PALE, "ms": 5}),
        ("Pareto-optimal", True, {"color": look.FINISHED, "ms": 7}),
    )
    for label, is_front, style in kinds:
        rows = [row for row in view.usable if (row.rank == 1) == is_front]
        xs = [across.hold(row.values[first]) for row in rows]
        ys = [up.hold(row.values[second]) for row in rows]
        axes.plot(xs, ys, "o", label=label, **style)
        for row, x, y in zip(rows, xs, ys, strict=True):
            if is_front and len(rows) <= _MOST_NAMED:
                axes.annotate(str(row.number), (x, y), (4, 4), textcoords="offset points", size=8)
    if view.default is not None:
        place = (across.hold(view.default.values[first]), up.hold(view.default.values[second]))
        style = {"mfc": "none", "mec": look.OWN, "mew": 1.6, "ms": 11}
        axes.plot(*place, "o", label="the recipe's own settings", **style)
