"""Which checkpoints of a run are kept, and which is the best."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from mono3d.config.training_sections import CheckpointConfig

NO_SCORE = -sys.float_info.max
"""Of a checkpoint that was not evaluated: finite, since it is stored as JSON, and below all."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A checkpoint among others."""

    step: int
    score: float


def score(metrics: Mapping[str, float], config: CheckpointConfig) -> float:
    """How good a checkpoint is, more is better; NO_SCORE where the metric is missing or NaN."""
    value = metrics.get(config.metric, math.nan)
    if not math.isfinite(value):
        return NO_SCORE
    return value if config.mode == "max" else -value


def ranked(candidates: list[Candidate]) -> list[Candidate]:
    """Best first; of equal scores the later one."""
    return sorted(candidates, key=lambda item: (item.score, item.step), reverse=True)


def to_delete(candidates: list[Candidate], *, keep: int) -> list[Candidate]:
    """All but the best `keep` and the last."""
    last = max((item.step for item in candidates), default=0)
    return [item for item in ranked(candidates)[keep:] if item.step != last]
