"""Curves of precision over recall; drawn in `figures`, which takes its time to import."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float64
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """One class's curve and its average precision, as the benchmark defines it."""

    recall: Float64[NDArray[Any], " points"]
    precision: Float64[NDArray[Any], " points"]
    average_precision: float
