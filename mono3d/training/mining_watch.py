"""Tells the user when mining leaves a class, or the model, too little to learn from."""

from collections import defaultdict
from collections.abc import Mapping

from mono3d.objectives.mining.statistics import mining_warnings

_PREFIX = "mining/"
_CLASS = "weight_share/class_"


class MiningWatch:
    """Averages the statistics of an epoch, in which even rare classes have samples."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        self._epoch: float | None = None

    def add(self, metrics: Mapping[str, float]) -> list[str]:
        """Take in a record of training; warnings about the epoch before if it starts a new one."""
        if f"{_PREFIX}effective_share" not in metrics:
            return []
        warnings = self.close() if metrics.get("train/epoch") != self._epoch else []
        self._epoch = metrics.get("train/epoch")
        self._count += 1
        for name, value in metrics.items():
            if name.startswith(_PREFIX):
                self._sums[name.removeprefix(_PREFIX)] += value
        return warnings

    def close(self) -> list[str]:
        """Warnings about what was added since the last ones."""
        means = {name: value / self._count for name, value in self._sums.items()}
        classes = [name.removeprefix(_CLASS) for name in means if name.startswith(_CLASS)]
        self._sums, self._count = defaultdict(float), 0
        return mining_warnings(means, classes) if means else []
