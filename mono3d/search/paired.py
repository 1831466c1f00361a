"""Paired differences over seeds: what may be called a gain, and what may not.

Runs of equal seed see the same frames in the same order, so their difference has less spread than
the runs themselves. Intervals are Student's, of 95 %; p-values of all metrics but the declared one
are corrected by Holm's method (Scandinavian Journal of Statistics, 1979) within each variant.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from scipy.stats import t as student_t

Verdict = Literal["gain", "loss", "open"]
LEVEL = 0.95
_LESS_IS_BETTER = ("abs_rel", "sq_rel", "rmse", "silog", "_ate", "_ase", "_aoe", "_ave", "_aae",
                   "mate", "mase", "maoe", "mave", "maae")  # fmt: skip


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
    """Two-sided, of no difference; None with a single seed."""
    corrected_p: float | None
    """By Holm; of the declared metric p itself."""
    verdict: Verdict
    """`open`, unless the interval, or the corrected p, leaves zero out."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - (math.inf if self.half_width is None else self.half_width)

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + (math.inf if self.half_width is None else self.half_width)


def less_is_better(metric: str) -> bool:
    """Whether a metric is an error."""
    name = metric.rpartition("/")[2]
    return any(part in name for part in _LESS_IS_BETTER)


def compare(
    variant: str,
    values: Mapping[int, Mapping[str, float]],
    baseline: Mapping[int, Mapping[str, float]],
    *,
    declared: str,
    less_declared: bool,
) -> list[Difference]:
    """Differences of a variant in all metrics that both have, the declared one first.

    Args:
        variant: Its name.
        values: Seed → metrics of the variant.
        baseline: The same of the baseline.
        declared: Metric that is judged by its own interval.
        less_declared: Whether less of that is better.
    """
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return []
    found = [
        _difference(variant, metric, seeds, values, baseline)
        for metric in values[seeds[0]]
        if all(metric in side[seed] for side in (values, baseline) for seed in seeds)
    ]
    first = [_judged(d, d.p, less_declared) for d in found if d.metric == declared]
    others = [d for d in found if d.metric != declared]
    corrected = holm([d.p for d in others])
    return first + [
        _judged(d, p, less_is_better(d.metric)) for d, p in zip(others, corrected, strict=True)
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of a family; None stays None and does not count."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[index] = largest
    return corrected


def _difference(
    variant: str,
    metric: str,
    seeds: Sequence[int],
    values: Mapping[int, Mapping[str, float]],
    baseline: Mapping[int, Mapping[str, float]],
) -> Difference:
    before = [baseline[seed][metric] for seed in seeds]
    after = [values[seed][metric] for seed in seeds]
    differences = [b - a for a, b in zip(before, after, strict=True)]
    mean = fmean(differences)
    half_width = p = None
    if len(seeds) > 1:
        error, freedom = stdev(differences) / math.sqrt(len(seeds)), len(seeds) - 1
        half_width = float(student_t.ppf((1 + LEVEL) / 2, freedom)) * error
        p = _two_sided(mean, error, freedom)
    return Difference(
        variant=variant,
        metric=metric,
        seeds=seeds,
        baseline=fmean(before),
        value=fmean(after),
        differences=differences,
        mean=mean,
        half_width=half_width,
        p=p,
        corrected_p=None,
        verdict="open",
    )


def _two_sided(mean: float, error: float, freedom: int) -> float:
    if error == 0.0:  # equal in every seed, or always differing by the same
        return 1.0 if mean == 0.0 else 0.0
    return 2 * float(student_t.sf(abs(mean) / error, freedom))


def _judged(difference: Difference, p: float | None, less: bool) -> Difference:
    verdict: Verdict = "open"
    if p is not None and p < 1 - LEVEL and difference.mean != 0:
        verdict = "gain" if (difference.mean < 0) == less else "loss"
    return replace(difference, corrected_p=p, verdict=verdict)
