"""How pictures of a search look: colours, ends of axes, labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from matplotlib.axes import Axes

from mono3d.search.report.importance import Importances
from mono3d.search.report.knobs import Knob
from mono3d.search.report.table import Goal, RankedTrial

# Paul Tol's "muted" scheme, as in the other figures.
FINISHED, STOPPED, IMPORTED, FAILED, RUNNING = "#332288", "#CC6677", "#999933", "#000000", "#44AA99"
BEST, OWN, PALE, NOISE, BAR = "#117733", "#882255", "#88CCEE", "#BBBBBB", "#44AA99"
HIGHLIGHTS = ("#332288", "#117733", "#999933")
"""Of the best trials' curves, in their order."""
_MOST_SPANS = 4.0
"""An axis ends where a value is so many times as far from the best as three quarters are."""
_FEW_VALUES = 8
_MARGIN = 0.05
ABSENT = -0.13
"""Where a trial stands on the axis, from 0 to 1, of a setting that it does not have."""
_LEAST_BARS, _MOST_BARS, _LEAST_SHARE = 6, 25, 0.01
_JITTER, _SPREAD, _GOLDEN = 0.03, 0.4, 0.618


@dataclass(frozen=True)
class Limits:
    """Ends of an axis of values."""

    low: float
    high: float
    num_beyond: int = 0
    """How many bad values it leaves out."""

    def place(self, value: float) -> float:
        """From 0 to 1, held at the ends."""
        return (self.hold(value) - self.low) / (self.high - self.low)

    def hold(self, value: float) -> float:
        """The value, or the end that it is beyond."""
        return min(self.high, max(self.low, value))

    def worse_end(self, goal: Goal) -> float:
        """Where trials without a value are marked."""
        return self.high if goal.less_is_better else self.low

    def ticks(self) -> dict[float, str]:
        """Place → value, for five of them."""
        shares = (0.0, 0.25, 0.5, 0.75, 1.0)
        return {share: f"{self.low + (self.high - self.low) * share:.4g}" for share in shares}


def value_limits(values: Sequence[float], goal: Goal) -> Limits:
    """Ends that show all values, but for bad ones so far off that nothing else could be told.

    Args:
        values: Finite ones; there may be none.
        goal: Which of them are bad.
    """
    losses = sorted(map(goal.loss, values))
    if not losses:
        return Limits(0.0, 1.0)
    best, worst = losses[0], losses[-1]
    if len(losses) >= _FEW_VALUES:
        reach = _MOST_SPANS * (quantiles(losses, n=4)[2] - best)
        worst = max((loss for loss in losses if loss <= best + reach), default=worst)
    num_beyond = sum(loss > worst for loss in losses)
    margin = _MARGIN * (worst - best) or _MARGIN * abs(best) or 1.0
    low, high = best - margin, worst + margin
    if not goal.less_is_better:
        low, high = -high, -low
    return Limits(low, high, num_beyond)


def broken(path: str, width: int) -> str:
    """A config path on lines of about that width, broken behind dots and underscores."""
    lines = [""]
    for part in path.replace(".", ".\0").replace("_", "_\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def crossing(knob: Knob, row: RankedTrial) -> float:
    """Where a trial's line crosses a knob's axis, which goes from 0 to 1."""
    if knob.name not in row.params:
        return ABSENT + _JITTER * _aside(row)
    place = knob.place(row.params[knob.name])
    return place if knob.choices is None else place + _JITTER * _aside(row)


def beside(knob: Knob, row: RankedTrial) -> float:
    """A trial's coordinate of a knob that it has."""
    coordinate = knob.coordinate(row.params[knob.name])
    return coordinate if knob.choices is None else coordinate + _SPREAD * _aside(row)


def _aside(row: RankedTrial) -> float:
    """From -0.5 to 0.5, so that trials of the same choice stand side by side."""
    return (row.number * _GOLDEN) % 1 - 0.5


def shown_shares(group: Importances) -> dict[str, float]:
    """The bars to draw: what matters, and all that hardly does as one."""
    shown = {
        name: share
        for place, (name, share) in enumerate(group.shares.items())
        if place < _LEAST_BARS or (share >= _LEAST_SHARE and place < _MOST_BARS)
    }
    others = [share for name, share in group.shares.items() if name not in shown]
    if len(others) < 2:
        return dict(group.shares)
    return shown | {f"{len(others)} others together": sum(others)}


def headline(group: Importances) -> str:
    """What importances stand on."""
    said = f"{group.branch or 'all trials'}: {group.num_trials} finished, "
    foretold = f"{100 * group.foretold:.0f} % foretold"
    return said + (f"{foretold}, no better than noise" if group.is_noise else foretold)


def trial_name(row: RankedTrial) -> str:
    """A trial in a legend."""
    rank = "" if row.rank is None else f", rank {row.rank}"
    return f"trial {row.number}{rank}{', the recipe as it is' if row.is_default else ''}"


def better(goal: Goal) -> str:
    """Which way is better, in words."""
    return "less is better" if goal.less_is_better else "more is better"


def literal(text: str) -> str:
    """A text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def plain(axes: Axes, goal: Goal, limits: Limits, fontsize: int = 10) -> None:
    """A light grid, and an upright axis of an objective's values."""
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=fontsize - 1)
    axes.set_ylim(limits.low, limits.high)
    axes.set_ylabel(f"{literal(goal.words)} ({better(goal)})", fontsize=fontsize)


def legend(axes: Axes) -> None:
    """To the right of the axes."""
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    axes.legend(fontsize=9, frameon=False, **place)
