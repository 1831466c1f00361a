"""What a search varied, in pictures, as files: one matplotlib Figure each, without pyplot."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize, to_rgba
from matplotlib.figure import Figure

from mono3d.search.report import look
from mono3d.search.report.importance import Importances
from mono3d.search.report.knobs import Knob
from mono3d.search.report.look import (
    ABSENT,
    Limits,
    beside,
    better,
    broken,
    crossing,
    headline,
    literal,
    plain,
    shown_shares,
)
from mono3d.search.report.table import RankedTrial
from mono3d.search.report.view import SearchView

MAX_AXES = 20
"""Of parallel coordinates, objectives among them."""
MAX_PANELS = 40
_ALPHAS = (0.7, 0.2)
"""Of lines between settings that a trial has, and of those to or from one that it lacks."""
_COLUMNS = 4
_LEFT_IN, _ACROSS_IN, _GAP_IN, _BAR_IN = 0.8, 2.3, 0.25, 0.9
_TOP_IN, _DOWN_IN, _BELOW_IN = 0.2, 2.5, 0.8
_WIDE = 24
"""Letters below a panel that are too many for one line."""


def parallel_coordinates(view: SearchView) -> Figure:
    """A line a trial through its results and settings, coloured by result."""
    found = view.foremost(MAX_AXES - len(view.goals))
    count = len(found) + len(view.goals)
    figure = Figure(figsize=(max(6.0, 1.05 * count + 1.6), 5.4), layout="constrained")
    axes = figure.add_subplot()
    limits = [view.limits(index) for index in range(len(view.goals))]
    for place, (goal, limit) in enumerate(zip(view.goals, limits, strict=True)):
        _upright(axes, place, limit.ticks(), f"{goal.words}\n({better(goal)})")
    for place, knob in enumerate(found, start=len(view.goals)):
        _upright(axes, place, knob.ticks(), broken(knob.name, 22))
        if any(knob.name not in row.params for row in view.usable):
            _say(axes, place - 0.05, ABSENT, "not there", color="0.6")
    colors = colormaps["viridis"]
    pieces, styles = [], []
    for row in reversed(view.usable):
        heights = [limit.place(v) for limit, v in zip(limits, row.values, strict=True)]
        heights += [crossing(knob, row) for knob in found]
        lacks = [False] * len(limits) + [knob.name not in row.params for knob in found]
        color, width = _style(view, row, limits[0], colors)
        for place, num_lacking in enumerate(map(sum, pairwise(lacks))):
            if num_lacking < 2:  # between two settings that it lacks there is nothing to follow
                pieces.append(list(enumerate(heights[place : place + 2], start=place)))
                alpha = 1.0 if row.rank == 1 and not num_lacking else _ALPHAS[num_lacking]
                styles.append((to_rgba(color, alpha), width))
    colored, widths = zip(*styles, strict=True)
    axes.add_collection(LineCollection(pieces, colors=colored, linewidths=widths, zorder=2))
    axes.set(xlim=(-0.7, count + 0.2), ylim=(ABSENT - 0.08, 1.05), yticks=[], xticks=[])
    axes.spines[:].set_visible(False)
    return figure


def _upright(axes: Axes, place: int, ticks: dict[float, str], label: str) -> None:
    axes.plot([place, place], [0, 1], color="0.35", lw=1, zorder=1)
    for height, text in ticks.items():
        axes.plot([place - 0.03, place], [height, height], color="0.35", lw=1)
        _say(axes, place - 0.05, height, text)
    axes.text(place, 1.06, literal(label), rotation=30, fontsize=8.5, rotation_mode="anchor")


def _say(axes: Axes, x: float, y: float, text: str, color: str = "0.25") -> None:
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
    style: dict[str, Any] = {
        "fontsize": 7.5,
        "color": color,
        "ha": "right",
        "va": "center",
        "zorder": 5,
    }
    axes.text(x, y, literal(text), bbox=box, **style)


def _style(
    view: SearchView, row: RankedTrial, limits: Limits, colors: Colormap
) -> tuple[Any, float]:
    """Colour and width by the result; with several objectives by whether none beats it."""
    width = 2.6 if row.rank == 1 else 1.1
    if len(view.goals) > 1:
        return look.OWN if row.rank == 1 else "0.6", width
    place = limits.place(row.values[0])
    return colors(0.95 * (place if view.goals[0].less_is_better else 1 - place)), width


def importances(view: SearchView) -> Figure:
    """Bars: what share of the variance a setting makes, over all trials and within branches."""
    groups = [
        (f"{goal.words}: " if len(view.goals) > 1 else "", group)
        for goal, report in zip(view.goals, view.importances, strict=True)
        for group in report.groups
    ]
    bars = [shown_shares(group) for _, group in groups]
    longest = max(len(name) for shares in bars for name in shares)
    height = sum(0.24 * len(shares) + 0.75 for shares in bars) + 0.3
    figure = Figure(figsize=(max(7.5, 4.4 + 0.075 * longest), height), layout="constrained")
    ratios = [len(shares) + 0.8 for shares in bars]
    panels = figure.subplots(len(bars), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})
    for axes, (about, group), shares in zip(panels[:, 0], groups, bars, strict=True):
        _bars(axes, group, shares)
        axes.set_title(literal(about + headline(group)), fontsize=9, loc="left")
    return figure


def _bars(axes: Axes, group: Importances, shares: Mapping[str, float]) -> None:
    color = look.NOISE if group.is_noise else look.BAR
    bars = axes.barh(range(len(shares)), list(shares.values()), color=color)
    axes.bar_label(bars, [f"{100 * s:.0f} %" for s in shares.values()], padding=3, fontsize=8)
    axes.set_yticks(range(len(shares)), [literal(name) for name in shares], fontsize=8.5)
    axes.set(xlim=(0, 1.12), ylim=(len(shares) - 0.4, -0.6))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def slices(view: SearchView) -> Figure:
    """Results against each setting, a panel each, later trials darker."""
    found = view.foremost(MAX_PANELS // len(view.goals))
    columns = min(_COLUMNS, len(found))
    count = len(view.goals)
    rows = -(-len(found) // columns) * count
    width, height = _LEFT_IN + columns * _ACROSS_IN + _BAR_IN, rows * _DOWN_IN + _TOP_IN
    figure = Figure(figsize=(width, height))
    norm = Normalize(0, max(1, *(row.number for row in view.rows)))
    shades = ScalarMappable(norm, ListedColormap(colormaps["Blues"](np.linspace(0.3, 1.0, 256))))
    for place, knob in enumerate(found):
        block, column = divmod(place, columns)
        for goal in range(count):
            left = _LEFT_IN + column * _ACROSS_IN
            low = height - _TOP_IN - (block * count + goal + 1) * _DOWN_IN + _BELOW_IN
            size = (_ACROSS_IN - _GAP_IN) / width, (_DOWN_IN - _BELOW_IN) / height
            axes = figure.add_axes((left / width, low / height, *size))
            _slice(axes, view, knob, goal, shades)
            if column:
                axes.set_ylabel("")
                axes.tick_params(labelleft=False)
    left = 1 - (_BAR_IN - _GAP_IN) / width
    low = 1 - (_TOP_IN + _DOWN_IN - _BELOW_IN) / height
    room = figure.add_axes((left, low, 0.14 / width, (_DOWN_IN - _BELOW_IN) / height))
    figure.colorbar(shades, cax=room).set_label("trial", fontsize=9)
    room.tick_params(labelsize=8)
    return figure


def _slice(axes: Axes, view: SearchView, knob: Knob, goal: int, shades: ScalarMappable) -> None:
    limits = view.limits(goal)
    plain(axes, view.goals[goal], limits, fontsize=8)
    rows = [row for row in reversed(view.usable) if knob.name in row.params]
    places = [beside(knob, row) for row in rows]
    values = [limits.hold(row.values[goal]) for row in rows]
    edges = [look.OWN if row.rank == 1 else "none" for row in rows]
    colors = shades.to_rgba(np.array([row.number for row in rows]))
    axes.scatter(places, values, s=22, c=colors, edgecolors=edges, linewidths=1.6)
    stopped = [beside(knob, r) for r in view.in_state("stopped early") if knob.name in r.params]
    edge = [limits.worse_end(view.goals[goal])] * len(stopped)
    axes.plot(stopped, edge, "|", color=look.STOPPED, ms=7, clip_on=False)
    low, high = knob.ends
    margin = 0.5 if knob.choices is not None else 0.04 * (high - low) or 0.5
    axes.set_xlim(low - margin, high + margin)
    ticks = {low + (high - low) * place: text for place, text in knob.ticks().items()}
    turned: dict[str, Any] = (
        {"rotation": 35, "ha": "right"} if sum(map(len, ticks.values())) > _WIDE else {}
    )
    names = [literal(text) for text in ticks.values()]
    axes.set_xticks(list(ticks), names, fontsize=7, rotation_mode="anchor", **turned)
    axes.set_xlabel(literal(broken(knob.name, 30)), fontsize=8)
