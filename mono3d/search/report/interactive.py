"""A search's results in pictures to point at: plotly figures, and what they have in common."""

from collections.abc import Sequence
from html import escape
from itertools import accumulate, combinations
from operator import itemgetter
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mono3d.search.report import look
from mono3d.search.report.look import Limits, better, trial_name, value_limits
from mono3d.search.report.table import Goal, RankedTrial, format_setting, format_value
from mono3d.search.report.view import SearchView

_MOST_SETTINGS = 16
"""In a box beside the pointer."""
_MOST_LETTERS = 120
_COLUMNS = 2
_TOP_PX, _FRAME_PX = 45, 90
"""Above a figure's panels; below and between them."""
_MARGIN = 0.03
_MARKS: dict[str, dict[str, Any]] = {
    "finished": {"color": look.FINISHED, "size": 8},
    "imported": {"color": look.IMPORTED, "size": 8, "symbol": "diamond"},
    "stopped early": {"color": look.STOPPED, "size": 8, "symbol": "x-thin", "line_width": 1.5},
    "running": {"color": look.RUNNING, "size": 9, "symbol": "triangle-up"},
    "failed": {"color": look.FAILED, "size": 10, "symbol": "line-ns", "line_width": 1.5},
}
_CURVES: dict[str, dict[str, Any]] = {
    "finished": {"color": look.PALE, "width": 1},
    "imported": {"color": look.IMPORTED, "width": 1},
    "stopped early": {"color": look.STOPPED, "width": 1},
    "running": {"color": look.RUNNING, "width": 1.4},
    "failed": {"color": look.FAILED, "width": 1, "dash": "dot"},
    "waiting": {"color": look.NOISE},
}


def history(view: SearchView) -> go.Figure:
    """Each trial's result, in the order of the trials, and the best until then."""
    count = len(view.goals)
    figure = panels(count, 1, 320.0)
    done = sorted(view.usable, key=lambda row: row.number)
    for index, goal in enumerate(view.goals):
        place = {"row": index + 1, "col": 1}
        limits = view.limits(index)
        upright(figure, goal, limits, place)
        choose = min if goal.less_is_better else max
        best = list(accumulate((row.values[index] for row in done), choose))
        line = {"color": look.BEST, "width": 2, "shape": "hv"}
        numbers = [row.number for row in done]
        _add(figure, place, "best so far", numbers, best, mode="lines", line=line)
        if view.default is not None:
            own = [view.default.values[index]] * 2
            line = {"color": look.OWN, "dash": "dash", "width": 1.5}
            ends = [0, max(row.number for row in view.rows)]
            _add(figure, place, "the recipe's own settings", ends, own, mode="lines", line=line)
        for state, style in _MARKS.items():
            if marks := view.marks(state, index):
                rows, values = [row for row, _ in marks], [value for _, value in marks]
                spreads = [row.spread[index] if row.spread else 0 for row in rows]
                shown = {
                    "mode": "markers",
                    "marker": {**style, "line_color": style["color"]},
                    "error_y": {"array": spreads, "visible": any(spreads), "width": 0},
                    "text": [about(view, row) for row in rows],
                    "hoverinfo": "text",
                }
                _add(figure, place, state, [row.number for row in rows], values, **shown)
    figure.update_xaxes(title_text="trial", row=count, col=1)
    return figure


def learning_curves(view: SearchView) -> go.Figure:
    """What each trial reported on the way, with the best and the recipe's own picked out."""
    figure = panels(1, 1, 420.0)
    place = {"row": 1, "col": 1}
    curves = list(view.curves())
    every = [value for _, _, values in curves for value in values]
    upright(figure, view.goals[0], value_limits(every, view.goals[0]), place)
    picked = view.picked()
    is_picked = [row.number in picked for row, _, _ in curves]
    for _, (row, epochs, values) in sorted(zip(is_picked, curves, strict=True), key=itemgetter(0)):
        color = picked.get(row.number)
        line = _CURVES[row.state] if color is None else {"color": color, "width": 3}
        name = row.state if color is None else trial_name(row)
        text = [f"epoch {e}: {format_value(v)}" for e, v in zip(epochs, values, strict=True)]
        text = [f"{said}<br>{about(view, row)}" for said in text]
        style = {"mode": "lines+markers", "line": line, "marker_size": 4}
        _add(figure, place, name, epochs, values, text=text, hoverinfo="text", **style)
    figure.update_xaxes(title_text="epoch")
    figure.update_layout(legend_traceorder="reversed")
    return figure


def pareto_front(view: SearchView) -> go.Figure:
    """Each pair of objectives: trials that none beats in all objectives, and the others."""
    pairs = list(combinations(range(len(view.goals)), 2))
    columns = min(_COLUMNS, len(pairs))
    figure = panels(-(-len(pairs) // columns), columns, 400.0, between=0.1)
    kinds = (("beaten by another", look.PALE, 8), ("Pareto-optimal", look.FINISHED, 11))
    for index, (first, second) in enumerate(pairs):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        across, up, goal = view.limits(first), view.limits(second), view.goals[first]
        upright(figure, view.goals[second], up, place)
        title = f"{escape(goal.words)} ({better(goal)})"
        figure.update_xaxes(title_text=title, range=[across.low, across.high], **place)
        for is_front, (name, color, size) in enumerate(kinds):
            rows = [row for row in view.usable if (row.rank == 1) == bool(is_front)]
            xs = [across.hold(row.values[first]) for row in rows]
            ys = [up.hold(row.values[second]) for row in rows]
            boxes = {"text": [about(view, row) for row in rows], "hoverinfo": "text"}
            marker = {"color": color, "size": size}
            _add(figure, place, name, xs, ys, mode="markers", marker=marker, **boxes)
        if view.default is not None:
            xs = [across.hold(view.default.values[first])]
            ys = [up.hold(view.default.values[second])]
            ring = {"symbol": "circle-open", "color": look.OWN, "size": 16, "line_width": 2}
            name = "the recipe's own settings"
            _add(figure, place, name, xs, ys, mode="markers", marker=ring, hoverinfo="skip")
    return figure


def panels(
    rows: int,
    columns: int,
    height: float,
    ratios: Sequence[int] | None = None,
    titles: Sequence[str] | None = None,
    between: float = 0.05,
) -> go.Figure:
    """A figure of equal panels of that height in pixels, or of heights in these ratios."""
    inner = rows * height + (rows - 1) * _FRAME_PX
    figure = make_subplots(
        rows,
        columns,
        vertical_spacing=_FRAME_PX / inner if rows > 1 else 0,
        horizontal_spacing=between,
        row_heights=ratios,
        subplot_titles=titles,
    )
    lay_out(figure, inner + _TOP_PX + _FRAME_PX)
    return figure


def lay_out(figure: go.Figure, height: float) -> None:
    """What all figures have in common."""
    figure.update_layout(
        template="plotly_white",
        height=round(height),
        font={"family": "DejaVu Sans, Arial, sans-serif", "size": 12},
        margin={"l": 80, "r": 30, "t": _TOP_PX, "b": _FRAME_PX},
        hoverlabel={"bgcolor": "white", "align": "left"},
    )


def upright(
    figure: go.Figure, goal: Goal, limits: Limits, where: dict[str, int], *, named: bool = True
) -> None:
    """An axis of an objective's values."""
    title = f"{escape(goal.words)} ({better(goal)})" if named else ""
    margin = _MARGIN * (limits.high - limits.low)  # so that marks at an end are whole
    ends = [limits.low - margin, limits.high + margin]
    figure.update_yaxes(title_text=title, range=ends, **where)


def about(view: SearchView, row: RankedTrial) -> str:
    """A trial in the box beside the pointer."""
    said = [f"<b>{trial_name(row)}</b> ({row.state})"]
    for goal, value in zip(view.goals, row.values, strict=False):
        said.append(f"{escape(goal.words)}: {format_value(value)}")
    settings = [f"{path}={format_setting(value)}" for path, value in row.params.items()]
    said += map(escape, settings[:_MOST_SETTINGS])
    if len(settings) > _MOST_SETTINGS:
        said.append(f"and {len(settings) - _MOST_SETTINGS} more settings")
    if row.reason:
        said.append(f"<i>{escape(row.reason[:_MOST_LETTERS])}</i>")
    return "<br>".join(said)


def _add(
    figure: go.Figure,
    where: dict[str, int],
    name: str,
    xs: Sequence[float] | Sequence[int],
    ys: Sequence[float],
    **style: Any,
) -> None:
    """Points of a name, that is in the legend once."""
    is_new = all(trace.name != name for trace in figure.data)
    figure.add_scatter(
        x=list(xs), y=list(ys), name=name, legendgroup=name, showlegend=is_new, **where, **style
    )
