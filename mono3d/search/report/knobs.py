"""What a search varies: its knobs, on a scale each, so that all can be drawn and compared."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from mono3d.search.report.table import format_setting

_MOST_TICKS = 5
_GAP = 0.16
"""Between the end of an axis and the next tick, as a share of the axis."""


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One setting that trials differ in; not every trial has to have it."""

    name: str
    """Its config path."""
    choices: Mapping[str, str] | None
    """Of a choice: what tells one from another → in words. None for a number."""
    is_log: bool = False
    is_whole: bool = False
    low: float = 0.0
    high: float = 0.0
    """Ends of a number's range, as searched."""

    def coordinate(self, value: Any) -> float:
        """Where a value stands: a choice's index, a number's logarithm to ten, or the number."""
        if self.choices is not None:
            return float(list(self.choices).index(repr(value)))
        return math.log10(value) if self.is_log else float(value)

    @property
    def ends(self) -> tuple[float, float]:
        """The range in coordinates."""
        if self.choices is not None:
            return 0.0, float(len(self.choices) - 1)
        return self.coordinate(self.low), self.coordinate(self.high)

    def place(self, value: Any) -> float:
        """The same from 0 to 1, a half where there is no range."""
        low, high = self.ends
        return (self.coordinate(value) - low) / (high - low) if high > low else 0.5

    def ticks(self) -> dict[float, str]:
        """Place → what stands there: all choices, or numbers from end to end."""
        if self.choices is not None:
            steps = max(1, len(self.choices) - 1)
            alone = len(self.choices) == 1
            return {
                0.5 if alone else index / steps: text
                for index, text in enumerate(self.choices.values())
            }
        low, high = self.ends
        if low == high:
            return {0.5: f"{self.low:.3g}"}
        inner = _round_powers(low, high) if self.is_log else _round_numbers(low, high)
        ticks = {(mark - low) / (high - low): value for mark, value in inner}
        if self.is_whole:
            ticks = {place: value for place, value in ticks.items() if value == round(value)}
        kept = {place: value for place, value in ticks.items() if _GAP < place < 1 - _GAP}
        return {
            place: f"{value:.3g}"
            for place, value in ({0.0: self.low} | kept | {1.0: self.high}).items()
        }


def knobs(trials: Sequence[FrozenTrial]) -> list[Knob]:
    """What trials differ in, in the order in which it was first drawn.

    Args:
        trials: Those that count; a knob that has one value in all of them is left out, unless some
            do not have it.
    """
    scales: dict[str, list[BaseDistribution]] = {}
    values: dict[str, list[Any]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        for name, scale in trial.distributions.items():
            scales.setdefault(name, []).append(scale)
            values.setdefault(name, []).append(trial.params[name])
    return [
        _knob(name, scales[name], values[name])
        for name in scales
        if len(set(map(repr, values[name]))) > 1 or len(values[name]) < len(trials)
    ]


def shared_knobs(trials: Sequence[FrozenTrial]) -> list[Knob]:
    """Those of these trials that all have, and that are not the same in all."""
    return [k for k in knobs(trials) if all(k.name in trial.params for trial in trials)]


def _knob(name: str, scales: Sequence[BaseDistribution], values: Sequence[Any]) -> Knob:
    """Of all that trials say of it; where the range was changed on the way, the widest."""
    if any(isinstance(scale, CategoricalDistribution) for scale in scales):
        known = [
            choice for scale in dict.fromkeys(scales) for choice in getattr(scale, "choices", ())
        ]
        return Knob(name=name, choices=_in_words([*known, *values]))
    is_log = all(scale.log for scale in scales)
    return Knob(
        name=name,
        choices=None,
        is_log=is_log,
        is_whole=all(isinstance(value, int) for value in values),
        low=float(min(scale.low for scale in scales)),
        high=float(max(scale.high for scale in scales)),
    )


def _in_words(choices: Iterable[Any]) -> dict[str, str]:
    """What tells choices apart → words, which are as short as they may be."""
    shown = {repr(choice): format_setting(choice) for choice in choices}
    texts = list(shown.values())
    return {key: text if texts.count(text) == 1 else key for key, text in shown.items()}


def _round_numbers(low: float, high: float) -> list[tuple[float, float]]:
    """Round numbers between two, as coordinates and values."""
    unit = 10.0 ** math.floor(math.log10((high - low) / _MOST_TICKS))
    step = next(unit * m for m in (1, 2, 5, 10) if (high - low) / (unit * m) <= _MOST_TICKS)
    values = [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, value) for value in values]


def _round_powers(low: float, high: float) -> list[tuple[float, float]]:
    """Of logarithms: powers of ten, or 1, 2 and 5 times those where there are few."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 2 else (1,)
    step = max(1, round((high - low) / _MOST_TICKS))
    values = [factor * 10.0**power for power in powers[::step] for factor in factors]
    return [(math.log10(v), v) for v in values if low <= math.log10(v) <= high]
