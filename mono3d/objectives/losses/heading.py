"""Heading losses, per sample, of both ways to say the heading."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mono3d.codec.heading import encode_axis, encode_bin, encode_direction
from mono3d.objectives.losses.depth import smooth_l1


def axis_losses(
    said: Mapping[str, Tensor], alpha: Float[Tensor, "*n"], *, beta: float
) -> dict[str, Float[Tensor, "*n"]]:
    """Terms `axis` and `direction` of `codec.heading.AxisHeading`."""
    axis = smooth_l1(said["axis"], encode_axis(alpha), beta=beta).sum(-1)
    return {"axis": axis, "direction": choice(said["direction"], encode_direction(alpha))}


def bin_losses(
    said: Mapping[str, Tensor], alpha: Float[Tensor, "*n"], *, beta: float
) -> dict[str, Float[Tensor, "*n"]]:
    """Terms `heading_bin` and `heading_residual` of `codec.heading.BinHeading`.

    Only the true bin's residual learns. Source: MonoDLE (arXiv:2103.16237), after Mousavian et al.,
    CVPR 2017 (arXiv:1612.00496); L1 there, smooth L1 here.
    """
    number, residual = encode_bin(alpha)
    at_bin = said["heading_residuals"].gather(-1, number[..., None])[..., 0]
    return {
        "heading_bin": choice(said["heading_bins"], number),
        "heading_residual": smooth_l1(at_bin, residual, beta=beta),
    }


def choice(logits: Float[Tensor, "*n options"], wanted: Tensor) -> Float[Tensor, "*n"]:
    """Cross entropy of each sample."""
    losses: Tensor = F.cross_entropy(logits.flatten(0, -2), wanted.flatten(), reduction="none")
    return losses.view_as(wanted)
