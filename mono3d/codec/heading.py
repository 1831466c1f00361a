"""Heading as a network says it: an axis and a direction along it, or one of several bins.

The angle is the observation angle alpha, in radians: what pixels can show.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from mono3d.geometry.angles import wrap

# Shifts the border between the two directions away from the common alphas 0 and pi/2.
DIRECTION_OFFSET_RAD = math.pi / 4
NUM_BINS = 12


@runtime_checkable
class HeadingCode(Protocol):
    """How responses say alpha."""

    channels: ClassVar[Mapping[str, int]]
    """Responses that say it → their channels."""

    def encode(self, alpha: Float[Tensor, "*n"]) -> dict[str, Tensor]:
        """Responses [*n, channels] that say it exactly."""
        ...

    def decode(self, said: Mapping[str, Tensor]) -> Float[Tensor, "*n"]:
        """Alpha in [-pi, pi) from the responses [*n, channels]."""
        ...

    def mean_with_mirrored(
        self, said: Mapping[str, Tensor], mirrored: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """One answer from those about the same points of an image and of its mirror image."""
        ...


class AxisHeading:
    """The axis as (sin 2a, cos 2a), and a two-way choice along it.

    Most shapes look alike from front and rear, so the axis (period pi, no jump anywhere) is
    regressed and the direction is a choice, as in FCOS3D (arXiv:2104.10956, section 3.2), whose own
    axis is a scalar under a sine loss.
    """

    channels: ClassVar[Mapping[str, int]] = {"axis": 2, "direction": 2}

    def encode(self, alpha: Float[Tensor, "*n"]) -> dict[str, Tensor]:
        """The axis, and which way along it."""
        direction = one_hot(encode_direction(alpha), 2).to(alpha.dtype)
        return {"axis": encode_axis(alpha), "direction": direction}

    def decode(self, said: Mapping[str, Tensor]) -> Float[Tensor, "*n"]:
        """The likelier of the two directions along the axis."""
        return decode_heading(said["axis"], said["direction"].argmax(-1))

    def mean_with_mirrored(
        self, said: Mapping[str, Tensor], mirrored: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The mean axis, and the mean of the logits of its directions."""
        axis = (said["axis"] + mirrored["axis"] * said["axis"].new_tensor([-1, 1])) / 2
        # Mirroring takes alpha to pi - alpha. Where alpha is within an eighth turn of 0 or pi, that
        # crosses the border between the two directions.
        is_swapped = axis[..., 1:] > 0
        direction = torch.where(is_swapped, mirrored["direction"].flip(-1), mirrored["direction"])
        return {"axis": axis, "direction": (said["direction"] + direction) / 2}


class BinHeading:
    """One of twelve bins around the circle, and the rest from each bin's middle.

    Source: MonoDLE (arXiv:2103.16237), after Mousavian et al., CVPR 2017 (arXiv:1612.00496): bin i
    has its middle at i * 2 pi / 12.
    """

    channels: ClassVar[Mapping[str, int]] = {
        "heading_bins": NUM_BINS, "heading_residuals": NUM_BINS,
    }  # fmt: skip

    def encode(self, alpha: Float[Tensor, "*n"]) -> dict[str, Tensor]:
        """The nearest bin, and the rest from its middle."""
        number, residual = encode_bin(alpha)
        bins = one_hot(number, NUM_BINS).to(alpha.dtype)
        return {"heading_bins": bins, "heading_residuals": bins * residual[..., None]}

    def decode(self, said: Mapping[str, Tensor]) -> Float[Tensor, "*n"]:
        """The likeliest bin's middle and its residual."""
        number = said["heading_bins"].argmax(-1, keepdim=True)
        residual = said["heading_residuals"].gather(-1, number)
        return decode_bin(number[..., 0], residual[..., 0])

    def mean_with_mirrored(
        self, said: Mapping[str, Tensor], mirrored: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Means bin by bin: mirroring takes alpha to pi - alpha, so bin i to 6 - i."""
        numbers = torch.arange(NUM_BINS, device=said["heading_bins"].device)
        back = torch.remainder(NUM_BINS // 2 - numbers, NUM_BINS)
        return {
            "heading_bins": (said["heading_bins"] + mirrored["heading_bins"][..., back]) / 2,
            "heading_residuals": (
                said["heading_residuals"] - mirrored["heading_residuals"][..., back]
            )
            / 2,
        }


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
    return in_direction(torch.atan2(axis[..., 0], axis[..., 1]) / 2, direction)


def in_direction(angle: Float[Tensor, "*n"], direction: Int64[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The angle, or its opposite, that lies in the half turn of a direction; in [-pi, pi)."""
    inside = torch.remainder(angle - DIRECTION_OFFSET_RAD, math.pi) + DIRECTION_OFFSET_RAD
    return wrap(inside + math.pi * direction.to(inside.dtype))


def encode_bin(
    alpha: Float[Tensor, "*n"],
) -> tuple[Int64[Tensor, "*n"], Float[Tensor, "*n"]]:
    """The bin whose middle is nearest, and what alpha is beyond that middle."""
    width = 2 * math.pi / NUM_BINS
    number = torch.remainder((alpha / width).round(), NUM_BINS)
    return number.long(), wrap(alpha - number * width)


def decode_bin(number: Int64[Tensor, "*n"], residual: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Alpha in [-pi, pi) of a bin and a residual."""
    return wrap(number.to(residual.dtype) * (2 * math.pi / NUM_BINS) + residual)
