"""How wrong a depth sample is: what every strategy means by hard and easy.

Strategies of 2D detection look at a sample's loss. Ours all look at its depth error instead, so
that they differ in their rule alone; the loss that is weighed is the same for all of them.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from mono3d.structures import DepthSamples

QualityMetric = Literal["ratio", "exp_rel", "exp_abs", "linear"]

MIN_DEPTH_M = 1.0
"""Depths count as at least this far in relative errors."""


def depth_error(samples: DepthSamples, metric: QualityMetric) -> Float[Tensor, " n"]:
    """The error that a quality metric measures, float32; not finite where the prediction is not.

    Returns:
        `ratio`: |ln(predicted / target)|, so that exp(-error) is the 1-D IoU of the two depths.
        `exp_rel`, `linear`: |predicted - target| / target. `exp_abs`: |predicted - target|, metres.
    """
    predicted, target = samples.predicted_m.float(), samples.target_m.float()
    match metric:
        case "ratio":
            log_predicted = predicted.clamp(min=MIN_DEPTH_M).log()
            return (log_predicted - target.clamp(min=MIN_DEPTH_M).log()).abs()
        case "exp_abs":
            return (predicted - target).abs()
        case "exp_rel" | "linear":
            return (predicted - target).abs() / target.clamp(min=MIN_DEPTH_M)


def hardness(samples: DepthSamples) -> Float[Tensor, " n"]:
    """The relative depth error, by which strategies of ranks order samples."""
    return depth_error(samples, "exp_rel")
