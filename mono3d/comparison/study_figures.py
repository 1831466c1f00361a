"""A study in pictures: differences to the baseline with their intervals, and each seed's."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mono3d.comparison.paired import Difference
from mono3d.comparison.study_metrics import in_words

_COLORS = {"gain": "#117733", "loss": "#882255", "open": "#777777"}
_WORDS = {"gain": "gain", "loss": "loss", "open": "holds zero, or fails Holm's correction"}
_MAX_COLUMNS = 4
_WIDTH_IN, _ROW_IN, _FRAME_IN = 3.4, 0.28, 1.1


def differences_figure(
    found: Mapping[str, Sequence[Difference]], metrics: Sequence[str], title: str
) -> Figure:
    """One panel a metric: each variant's mean difference, its interval, and a dot a seed.

    Args:
        found: Variant → its differences.
        metrics: To draw; those that no variant has are left out.
        title: Of the whole.
    """
    drawn = [m for m in metrics if any(d.metric == m for rows in found.values() for d in rows)]
    columns = max(1, min(_MAX_COLUMNS, len(drawn)))
    lines = max(1, -(-len(drawn) // columns))
    height = lines * (_FRAME_IN + _ROW_IN * max(1, len(found))) + 0.6
    figure = Figure(figsize=(_WIDTH_IN * columns + 1.2, height), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for number, panel in enumerate(axes.flat):
        if number < len(drawn):
            _panel(panel, found, drawn[number])
        else:
            panel.set_visible(False)
    figure.suptitle(title)
    handles = [
        figure.axes[0].plot([], [], "o", color=color, label=_WORDS[verdict])[0]
        for verdict, color in _COLORS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _panel(panel: Axes, found: Mapping[str, Sequence[Difference]], metric: str) -> None:
    names = list(found)
    panel.axvline(0, color="black", linewidth=0.8)
    for row, name in enumerate(names):
        difference = next((d for d in found[name] if d.metric == metric), None)
        if difference is None:
            continue
        color = _COLORS[difference.verdict]
        panel.plot(
            difference.differences, [row] * len(difference.seeds), ".", color=color, alpha=0.35
        )
        panel.errorbar(
            difference.mean, row, xerr=difference.half_width or 0, fmt="o", color=color, capsize=3
        )
    drawn = [row for rows in found.values() for row in rows if row.metric == metric]
    better = "←" if drawn[0].less_is_better else "→"
    panel.set_title(f"{in_words(metric)}   {better} better", fontsize=9)
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.margins(x=0.1)
    panel.locator_params(axis="x", nbins=5)
    panel.tick_params(labelsize=8)
    panel.grid(axis="x", alpha=0.3)
