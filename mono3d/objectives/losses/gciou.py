"""GCIoU: the IoU loss whose gradient is corrected for large yaw errors and for the size of boxes.

Source: GCIoU, CVPR 2023. With d the yaw error folded into [0, pi/2]:

    L = -ln(IoU) f(d) + g(d),  f(d) = exp(d^alpha),  g(d) = tan d  (its equation 17)

and each gradient on a size is multiplied by U^(2/3), U the volume of the union (equation 18). The
paper's best g is exp(d) - 1 (its table 3), our default.

Ours, for detectors whose boxes often miss: below `min_iou`, where -ln(IoU) says nothing or is a
cliff, `1 - IoU + center_distance` stands in its place, with an L1 loss of the logarithms of sizes.
Ours, too, is `normalised`: equation 18 in units of the class's typical box, so that a car does not
learn five times as fast as a pedestrian; U / U_ref is 1 for such a box that fits.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.geometry.angles import wrap
from mono3d.objectives.losses.iou import BoxPairs, center_distance

YawPenalty = Literal["exp", "tan", "none"]
Rescale = Literal["raw", "normalised", "off"]

MAX_TAN_RAD = 0.49 * math.pi
"""Beyond it tan d stays: at pi/2 it is infinite."""
MAX_FACTOR = 4.0
"""The normalised factor stays between its inverse and itself."""
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class GciouLoss:
    """The loss with its parts; `alpha` None, `yaw_penalty` none and `rescale` off leave one out.

    Raises:
        ValueError: A setting is outside its range.
    """

    alpha: float | None = 2.0
    """Exponent of f, at least 1. None: f = 1."""
    yaw_penalty: YawPenalty = "exp"
    """g: exp(d) - 1, tan d, or none."""
    rescale: Rescale = "normalised"
    """Factor on gradients on sizes: U^(2/3) in m² (raw), (U / U_ref)^(2/3) in [1/4, 4], or 1."""
    min_iou: float = 0.01
    """IoU from which on -ln(IoU) is taken, in (0, 1)."""

    def __post_init__(self) -> None:
        """Every setting is in its range."""
        rules = {
            "alpha": self.alpha is None or 1 <= self.alpha < math.inf,
            "yaw_penalty": self.yaw_penalty in get_args(YawPenalty),
            "rescale": self.rescale in get_args(Rescale),
            "min_iou": 0 < self.min_iou < 1,
        }
        for name, holds in rules.items():
            if not holds:
                raise ValueError(f"GciouLoss: {name}={getattr(self, name)!r} is out of range")

    def __call__(self, pairs: BoxPairs) -> Float[Tensor, "*n"]:
        """Loss of each pair.

        A constant keeps boxes that lose touch from looking better, as far as their yaws agree.
        """
        dims_hwl = pairs.said.dims_hwl.clone()
        pairs = replace(pairs, said=replace(pairs.said, dims_hwl=dims_hwl))
        iou, union = pairs.iou_and_union()
        if dims_hwl.requires_grad and self.rescale != "off":
            factor = self.size_factor(union.detach(), pairs.typical_volume)[..., None]
            dims_hwl.register_hook(lambda gradient: gradient * factor)
        misses = iou < self.min_iou
        miss = torch.where(
            misses, 1 - iou + center_distance(pairs), -iou.clamp(min=self.min_iou).log()
        )
        sizes = size_error(pairs) - math.log(self.min_iou) - 1
        error = yaw_error(pairs)
        return miss * self._emphasis(error) + self._penalty(error) + torch.where(misses, sizes, 0.0)

    def size_factor(
        self, union: Float[Tensor, "*n"], typical_volume: Float[Tensor, "*n"]
    ) -> Float[Tensor, "*n"]:
        """What gradients on sizes are multiplied by; volumes in cubic metres."""
        match self.rescale:
            case "off":
                return torch.ones_like(union)
            case "raw":
                return union.clamp(min=0) ** (2 / 3)
            case "normalised":
                share = union / typical_volume.clamp(min=_TINY)
                return (share.clamp(min=0) ** (2 / 3)).clamp(1 / MAX_FACTOR, MAX_FACTOR)

    def _emphasis(self, error: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The paper's f."""
        return torch.ones_like(error) if self.alpha is None else torch.exp(error**self.alpha)

    def _penalty(self, error: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The paper's g."""
        match self.yaw_penalty:
            case "none":
                return torch.zeros_like(error)
            case "exp":
                return torch.expm1(error)
            case "tan":
                return error.clamp(max=MAX_TAN_RAD).tan()


def yaw_error(pairs: BoxPairs) -> Float[Tensor, "*n"]:
    """Angle between the axes of both boxes, in [0, pi/2]."""
    return wrap(2 * pairs.turned()).abs() / 2


def size_error(pairs: BoxPairs) -> Float[Tensor, "*n"]:
    """Sum of |ln(predicted / true)| over height, width and length."""
    said, true = (
        boxes.dims_hwl.clamp(min=torch.finfo(boxes.dims_hwl.dtype).tiny)
        for boxes in (pairs.said, pairs.true)
    )
    return (said.log() - true.log()).abs().sum(-1)
