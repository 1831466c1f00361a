"""The depth part of an objective: in which coordinate it is learnt, and by which loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.point_codec import BoxTargets
from mono3d.geometry.camera import focal_px
from mono3d.objectives.losses.depth import (
    SMOOTH_L1_BETA,
    laplace_nll_gradient,
    mined_laplace_nll,
    smooth_l1,
    smooth_l1_gradient,
)
from mono3d.structures import Batch

DepthLoss = Literal["smooth_l1_log", "smooth_l1_m", "laplace"]


@dataclass(frozen=True, kw_only=True)
class DepthAnswers:
    """Depth at the positives, in the coordinate of its loss."""

    predicted: Float[Tensor, "n p"]
    target: Float[Tensor, "n p"]
    gradient: Float[Tensor, "n p"]
    """Size of what the loss puts on the raw output, without weights."""


def depth_answers(
    kind: DepthLoss, said: Mapping[str, Tensor], targets: BoxTargets, codec: LogDepthCodec
) -> DepthAnswers:
    """Prediction, target and gradient on the raw output of a kind of loss.

    Args:
        kind: Of the loss.
        said: Responses at the positives.
        targets: At the positives.
        codec: The depth code.
    """
    if kind == "smooth_l1_m":
        slope = said["depth_slope"] * codec.std_log * said["depth_m"].detach()
        predicted, target = said["depth_m"], targets.depth_m
    else:
        slope = said["depth_slope"]
        predicted, target = said["log_depth"], targets.log_depth
    if kind == "laplace":
        gradient = laplace_nll_gradient(said["log_sigma"], slope)
    else:
        gradient = smooth_l1_gradient(predicted, target, slope, beta=SMOOTH_L1_BETA)
    return DepthAnswers(predicted=predicted, target=target, gradient=gradient)


def depth_sum(
    kind: DepthLoss,
    depth: DepthAnswers,
    said: Mapping[str, Tensor],
    targets: BoxTargets,
    weights: Float[Tensor, "n p"],
) -> Float[Tensor, ""]:
    """Weighted depth losses; `weights` is 0 on padding, which must not teach sigma either."""
    if kind == "laplace":
        losses = mined_laplace_nll(depth.predicted, said["log_sigma"], depth.target, weights)
        return (losses * targets.valid).sum()
    return (weights * smooth_l1(depth.predicted, depth.target, beta=SMOOTH_L1_BETA)).sum()


def depth_map_sum(
    log_depth: Float[Tensor, "n hf wf"], batch: Batch, codec: LogDepthCodec
) -> Float[Tensor, ""]:
    """Sum over images of the mean loss at cells that hold a LiDAR point."""
    assert batch.depth_targets is not None
    target_m = batch.depth_targets.flatten(0, 1)
    known = (target_m > 0).float()
    focal = focal_px(batch.projection.flatten(0, 1))[:, None, None]
    losses = smooth_l1(log_depth, codec.encode(target_m, focal), beta=SMOOTH_L1_BETA) * known
    return (losses.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)).sum()
