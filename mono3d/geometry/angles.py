"""Angles in radians. yaw: heading in the frame; alpha: heading seen from the camera's ray."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def wrap(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The same angle in [-pi, pi)."""
    wrapped = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
    # The remainder of a tiny negative number rounds to the divisor: pi, outside the interval.
    return torch.where(wrapped < math.pi, wrapped, -math.pi)


def alpha_from_yaw(
    yaw: Float[Tensor, "*n"], centers_cam: Float[Tensor, "*n 3"]
) -> Float[Tensor, "*n"]:
    """Observation angle of camera-frame boxes: yaw less the direction of the ray to the centre."""
    return wrap(yaw - torch.atan2(centers_cam[..., 0], centers_cam[..., 2]))


def yaw_from_alpha(
    alpha: Float[Tensor, "*n"], centers_cam: Float[Tensor, "*n 3"]
) -> Float[Tensor, "*n"]:
    """Inverse of `alpha_from_yaw`."""
    return wrap(alpha + torch.atan2(centers_cam[..., 0], centers_cam[..., 2]))
