"""Heading as a network says it: the axis as (sin 2a, cos 2a), and which way along it.

Most shapes look alike from front and rear, so the axis (period pi, no jump anywhere) is regressed
and the direction is a two-way choice, as in FCOS3D (arXiv:2104.10956, section 3.2), whose own axis
is a scalar under a sine loss. The angle is the observation angle alpha: what pixels can show.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mono3d.geometry.angles import wrap

# Shifts the border between the two directions away from the common alphas 0 and pi/2.
DIRECTION_OFFSET_RAD = math.pi / 4


def encode_axis(alpha: Float[Tensor, "*n"]) -> Float[Tensor, "*n 2"]:
    """(sin 2a, cos 2a)."""
    return torch.stack([(2 * alpha).sin(), (2 * alpha).cos()], dim=-1)


def encode_direction(alpha: Float[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    """0 or 1: the half turn, counted from DIRECTION_OFFSET_RAD, in which alpha lies."""
    turned = torch.remainder(alpha - DIRECTION_OFFSET_RAD, 2 * math.pi)
    return (turned >= math.pi).long()


def decode_heading(
    axis: Float[Tensor, "*n 2"], direction: Int64[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    """Alpha in [-pi, pi) of an axis of any length and a direction."""
    half = torch.atan2(axis[..., 0], axis[..., 1]) / 2
    inside = torch.remainder(half - DIRECTION_OFFSET_RAD, math.pi) + DIRECTION_OFFSET_RAD
    alpha = inside + math.pi * direction.to(inside.dtype)
    return wrap(alpha)
