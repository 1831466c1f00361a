"""What a search varied, in pictures to point at: plotly figures."""

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from mono3d.search.report import look
from mono3d.search.report.interactive import lay_out, panels, upright
from mono3d.search.report.knobs import Knob
from mono3d.search.report.look import (
    ABSENT,
    beside,
    better,
    broken,
    crossing,
    headline,
    shown_shares,
    trial_name,
)
from mono3d.search.report.table import Goal, RankedTrial, format_setting, format_value
from mono3d.search.report.view import SearchView

MAX_AXES = 16
"""Of parallel coordinates, objectives among them; browsers draw nothing wider than 4096 pixels, of
which a fine screen has two for one."""
MAX_PANELS = 40
_COLUMNS = 3


def parallel_coordinates(view: SearchView) -> go.Figure:
    """A line a trial through its results and settings, coloured by result."""
    limits = [view.limits(index) for index in range(len(view.goals))]
    rows = view.usable
    axes = [
        _axis(f"{goal.words}<br>({better(goal)})", limit.ticks(), [limit.place(v) for v in values])
        for goal, limit, values in zip(
            view.goals, limits, zip(*(row.values for row in rows), strict=True), strict=True
        )
    ]
    for knob in view.foremost(MAX_AXES - len(axes)):
        ticks = knob.ticks()
        if any(knob.name not in row.params for row in rows):
            ticks = {ABSENT: "not there"} | ticks
        label = escape(broken(knob.name, 18)).replace("\n", "<br>")
        axes.append(_axis(label, ticks, [crossing(knob, row) for row in rows]))
    line: dict[str, Any] = {"colorscale": "Viridis", "cmin": 0, "cmax": 1}
    line["color"] = axes[0]["values"]
    line["reversescale"] = not view.goals[0].less_is_better
    if len(view.goals) > 1:
        line |= {"color": [int(row.rank == 1) for row in rows], "reversescale": False}
        line["colorscale"] = [[0, "#CCCCCC"], [1, look.OWN]]
    figure = go.Figure(go.Parcoords(dimensions=axes, line=line, labelangle=-25))
    lay_out(figure, 520.0)
    margin = {"l": 90, "r": 90, "t": 130, "b": 30}
    figure.update_layout(width=max(900, 115 * len(axes)), margin=margin)
    return figure


def _axis(label: str, ticks: dict[float, str], values: Sequence[float]) -> dict[str, Any]:
    return {
        "label": label,
        "values": values,
        "range": (ABSENT - 0.05, 1.05),
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
    }


def importances(view: SearchView) -> go.Figure:
    """Bars: what share of the variance a setting makes, over all trials and within branches."""
    groups = [
        (f"{goal.words}: " if len(view.goals) > 1 else "", group)
        for goal, report in zip(view.goals, view.importances, strict=True)
        for group in report.groups
    ]
    lengths = [len(shown_shares(group)) + 1 for _, group in groups]
    titles = [escape(said + headline(group)) for said, group in groups]
    figure = panels(len(groups), 1, 24 * sum(lengths) / len(groups), lengths, titles)
    for row, (_, group) in enumerate(groups, start=1):
        shares = shown_shares(group)
        color = look.NOISE if group.is_noise else look.BAR
        bars = go.Bar(
            x=list(shares.values()),
            y=list(map(escape, shares)),
            orientation="h",
            marker_color=color,
            texttemplate="%{x:.0%}",
            textposition="outside",
            cliponaxis=False,
            hoverinfo="skip",
        )
        figure.add_trace(bars, row=row, col=1)
    figure.update_yaxes(autorange="reversed", automargin=True, ticksuffix=" ")
    figure.update_xaxes(range=[0, 1.1], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    figure.update_layout(showlegend=False)
    return figure


def slices(view: SearchView) -> go.Figure:
    """Results against each setting, a panel each, later trials darker."""
    count = len(view.goals)
    found = view.foremost(MAX_PANELS // count)
    columns = min(_COLUMNS, len(found))
    figure = panels(-(-len(found) // columns) * count, columns, 220.0)
    for place, knob in enumerate(found):
        for index in range(count):
            where = {"row": place // columns * count + index + 1, "col": place % columns + 1}
            _slice(figure, view, knob, index, where)
    figure.update_layout(showlegend=False)
    return figure


def _slice(
    figure: go.Figure, view: SearchView, knob: Knob, index: int, where: dict[str, int]
) -> None:
    limits = view.limits(index)
    upright(figure, view.goals[index], limits, where, named=where["col"] == 1)
    rows = [row for row in reversed(view.usable) if knob.name in row.params]
    marker = {
        "color": [row.number for row in rows],
        "cmin": -0.4 * len(view.rows),
        "cmax": len(view.rows),
        "colorscale": "Blues",
        "size": 8,
        "line_color": look.OWN,
        "line_width": [2 if row.rank == 1 else 0 for row in rows],
    }
    figure.add_scatter(
        x=[beside(knob, row) for row in rows],
        y=[limits.hold(row.values[index]) for row in rows],
        mode="markers",
        marker=marker,
        text=[_about(row, knob, view.goals[index], row.values[index]) for row in rows],
        hoverinfo="text",
        **where,
    )
    stopped = [row for row in view.in_state("stopped early") if knob.name in row.params]
    figure.add_scatter(
        x=[beside(knob, row) for row in stopped],
        y=[limits.worse_end(view.goals[index])] * len(stopped),
        mode="markers",
        marker={"symbol": "line-ns", "size": 8, "line_color": look.STOPPED, "line_width": 1.5},
        text=[f"<b>trial {row.number}</b><br>stopped early" for row in stopped],
        hoverinfo="text",
        **where,
    )
    low, high = knob.ends
    margin = 0.5 if knob.choices is not None else 0.04 * (high - low) or 0.5
    ticks = {low + (high - low) * place: text for place, text in knob.ticks().items()}
    figure.update_xaxes(
        title_text=escape(broken(knob.name, 34)).replace("\n", "<br>"),
        range=[low - margin, high + margin],
        tickvals=list(ticks),
        ticktext=list(map(escape, ticks.values())),
        **where,
    )


def _about(row: RankedTrial, knob: Knob, goal: Goal, value: float) -> str:
    setting = f"{knob.name}={format_setting(row.params[knob.name])}"
    return f"<b>{trial_name(row)}</b><br>{escape(goal.words)}: {format_value(value)}<br>" + escape(
        setting
    )
