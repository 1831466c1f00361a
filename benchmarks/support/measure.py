"""Ratios that a busy machine changes little: CPU seconds, taken in turns, with an interval."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

_RESAMPLES = 2000
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How long some work takes, in units of its peer."""

    ratio: float
    interval: tuple[float, float]
    work_s: float
    """Median over rounds."""
    peer_s: float


def cpu_seconds(work: Callable[..., object], *args: object) -> float:
    """CPU time of a call in this process, all threads."""
    start = time.process_time()
    work(*args)
    return time.process_time() - start


def compare(
    work: Callable[[T], object], peer: Callable[[T], object], items: Sequence[T], *, rounds: int
) -> Comparison:
    """Do both in turns, item by item, so that what else the machine does meets both.

    Returns:
        The median over rounds of the ratio of their CPU times; the first round warms up.
    """
    seconds = np.zeros((rounds + 1, 2))
    for number in range(rounds + 1):
        for item in items:
            seconds[number] += cpu_seconds(work, item), cpu_seconds(peer, item)
    ratios = seconds[1:, 0] / seconds[1:, 1]
    work_s, peer_s = np.median(seconds[1:], axis=0).tolist()
    return Comparison(
        ratio=float(np.median(ratios)),
        interval=interval(np.median, ratios),
        work_s=work_s,
        peer_s=peer_s,
    )


def interval(statistic: Callable[..., float], *samples: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap at 95 %; each sample (rows, if it has two axes) is drawn by itself."""
    random = np.random.default_rng(0)
    drawn = [
        statistic(*(sample[random.integers(len(sample), size=len(sample))] for sample in samples))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    return low, high


class Stopwatch:
    """CPU seconds spent in some calls."""

    def __init__(self) -> None:
        """None so far."""
        self.seconds = 0.0

    def around(self, call: Callable[P, T]) -> Callable[P, T]:
        """The same call, timed."""

        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            start = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        return timed
