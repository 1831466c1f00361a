"""Paired differences over seeds: what may be called a gain, and what may not.

Runs of equal seed see the same frames in the same order, so their difference has less spread than
the runs themselves. Intervals are Student's, of 95 %; p-values of all metrics but the declared one
are corrected by Holm's method (Scandinavian Journal of Statistics, 1979) within each variant.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal, TypedDict

from scipy.stats import t as student_t

Verdict = Literal["gain", "loss", "open"]
LEVEL = 0.95
_ROUNDING = 1e-9
"""Spread below this share of the mean is that of floating point."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of a variant, compared with the baseline seed by seed."""

    variant: str
    metric: str
    seeds: Sequence[int]
    """Those that both have."""
    baseline: float
    """Mean over these seeds."""
    value: float
    """The variant's mean."""
    differences: Sequence[float]
    """Variant minus baseline, one a seed."""
    mean: float
    half_width: float | None
    """Of the interval about the mean; None with a single seed."""
    p: float | None
    """Two-sided, of no difference; None with a single seed, and where all seeds differ by the same:
    metrics that move in steps do so by chance."""
    is_declared: bool
    """Whether its interval alone decides."""
    less_is_better: bool
    corrected_p: float | None = None
    """By Holm; of the declared metric p itself."""
    verdict: Verdict = "open"
    """`open`, unless the interval, or the corrected p, leaves zero out."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - (math.inf if self.half_width is None else self.half_width)

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + (math.inf if self.half_width is None else self.half_width)


def compare(
    variant: str,
    values: Mapping[int, Mapping[str, float]],
    baseline: Mapping[int, Mapping[str, float]],
    *,
    declared: str,
    less_is_better: Callable[[str], bool],
) -> list[Difference]:
    """Differences of a variant, each metric over the seeds in which both sides have it.

    Args:
        variant: Its name.
        values: Seed → metrics of the variant.
        baseline: The same of the baseline.
        declared: Metric that is judged by its own interval.
        less_is_better: Says so of a metric.

    Returns:
        The declared metric's first, if there is one, then the others in the order of their runs.
    """
    seeds = sorted(values.keys() & baseline.keys())
    metrics = dict.fromkeys([declared, *(name for seed in seeds for name in values[seed])])
    found = []
    for metric in metrics:
        common = [seed for seed in seeds if metric in values[seed] and metric in baseline[seed]]
        if common:
            before = [baseline[seed][metric] for seed in common]
            after = [values[seed][metric] for seed in common]
            found.append(
                Difference(
                    variant=variant,
                    metric=metric,
                    seeds=common,
                    baseline=fmean(before),
                    value=fmean(after),
                    is_declared=metric == declared,
                    less_is_better=less_is_better(metric),
                    **_paired([b - a for a, b in zip(before, after, strict=True)]),
                )
            )
    corrected = iter(holm([row.p for row in found if not row.is_declared]))
    return [_judged(row, row.p if row.is_declared else next(corrected)) for row in found]


def declared_of(rows: Iterable[Difference]) -> Difference | None:
    """The declared metric's among a variant's differences."""
    return next((row for row in rows if row.is_declared), None)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of a family; None stays None and does not count."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[index] = largest
    return corrected


class _Paired(TypedDict):
    """What follows from the differences alone; see `Difference`."""

    differences: list[float]
    mean: float
    half_width: float | None
    p: float | None


def _paired(differences: list[float]) -> _Paired:
    mean, count = fmean(differences), len(differences)
    half_width = p = None
    if count > 1:
        error = stdev(differences) / math.sqrt(count)
        half_width = float(student_t.ppf((1 + LEVEL) / 2, count - 1)) * error
        if error > _ROUNDING * abs(mean):
            p = 2 * float(student_t.sf(abs(mean) / error, count - 1))
    return _Paired(differences=differences, mean=mean, half_width=half_width, p=p)


def _judged(row: Difference, p: float | None) -> Difference:
    verdict: Verdict = "open"
    if p is not None and p < 1 - LEVEL:
        verdict = "gain" if (row.mean < 0) == row.less_is_better else "loss"
    return replace(row, corrected_p=p, verdict=verdict)
