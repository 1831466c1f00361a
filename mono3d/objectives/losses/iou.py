"""IoU losses of rotated upright boxes, per pair: published ones, beside `gciou`.

Each is 0 where a box equals the one that it should be, and finite everywhere, as its gradient is.
Turning a box by half a turn costs nothing: directions are for other losses to learn.

An enclosing box is taken along the sides of the true box. Papers take the image's axes or search
for the smallest box; along the true box it turns with the scene, needs no search, and is the
smallest one where the yaws agree.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.geometry.box_iou import footprints_cam, paired_iou_3d

LEAST_IOU = 1e-6
"""In a logarithm."""
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class UprightBoxes:
    """Boxes in the camera frame; centres and sizes in metres, yaw in radians."""

    centers: Float[Tensor, "*n 3"]
    dims_hwl: Float[Tensor, "*n 3"]
    yaw: Float[Tensor, "*n"]


@dataclass(frozen=True, kw_only=True)
class BoxPairs:
    """Predicted boxes, and what each of them should be."""

    said: UprightBoxes
    true: UprightBoxes
    typical_volume: Float[Tensor, "*n"]
    """Of objects of the true box's class, cubic metres."""

    def iou_and_union(self) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
        """Intersection over union in space, and the union in cubic metres."""
        said, true = (
            footprints_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
            for boxes in (self.said, self.true)
        )
        return paired_iou_3d(*said, *true)

    def turned(self) -> Float[Tensor, "*n"]:
        """Yaw error with its sign, radians."""
        return self.said.yaw - self.true.yaw


IouLoss = Callable[[BoxPairs], Tensor]
"""Loss [*n] of each pair."""


def iou_loss(pairs: BoxPairs) -> Float[Tensor, "*n"]:
    """1 - IoU; boxes that share nothing learn nothing."""
    return 1 - pairs.iou_and_union()[0]


def log_iou_loss(pairs: BoxPairs) -> Float[Tensor, "*n"]:
    """-ln IoU; boxes that share nothing learn nothing. Source: UnitBox (arXiv:1608.01471)."""
    return -pairs.iou_and_union()[0].clamp(min=LEAST_IOU).log()


def giou_loss(pairs: BoxPairs) -> Float[Tensor, "*n"]:
    """1 - IoU + the share of the enclosing box that neither box fills.

    Source: Rezatofighi et al., CVPR 2019 (arXiv:1902.09630).
    """
    iou, union = pairs.iou_and_union()
    enclosing = product(_enclosing_sizes(pairs)).clamp(min=_TINY)
    return 1 - iou + (enclosing - union).clamp(min=0) / enclosing


def diou_loss(pairs: BoxPairs) -> Float[Tensor, "*n"]:
    """1 - IoU + squared distance of the centres, in diagonals of the enclosing box.

    Source: Zheng et al., AAAI 2020 (arXiv:1911.08287).
    """
    return 1 - pairs.iou_and_union()[0] + center_distance(pairs)


def center_distance(pairs: BoxPairs) -> Float[Tensor, "*n"]:
    """Squared distance of the centres over the squared diagonal of the enclosing box, below 1."""
    offset = pairs.said.centers - pairs.true.centers
    diagonal = _enclosing_sizes(pairs).square().sum(-1)
    return offset.square().sum(-1) / diagonal.clamp(min=_TINY)


def rdiou_loss(pairs: BoxPairs) -> Float[Tensor, "*n"]:
    """DIoU of boxes that nothing turns: yaw is a fourth axis, on which each is one wide.

    After Sheng et al., RDIoU, ECCV 2022 (arXiv:2207.09332): along the fourth axis the two are
    |sin(yaw error)| apart. There sizes and offsets are those of anchor residuals; here they are
    metres along the true box.
    """
    apart = pairs.turned().sin().abs()
    offset = torch.cat([_offset_along_true(pairs), apart[..., None]], dim=-1)
    half_said, half_true = (
        torch.cat([boxes.dims_hwl, torch.ones_like(apart)[..., None]], dim=-1) / 2
        for boxes in (pairs.said, pairs.true)
    )
    low, high = offset - half_said, offset + half_said
    inside = torch.minimum(high, half_true) - torch.maximum(low, -half_true)
    enclosing = torch.maximum(high, half_true) - torch.minimum(low, -half_true)
    shared = product(inside.clamp(min=0))
    united = product(2 * half_said) + product(2 * half_true) - shared
    distance = offset.square().sum(-1) / enclosing.square().sum(-1)
    return 1 - shared / united.clamp(min=_TINY) + distance


def _offset_along_true(pairs: BoxPairs) -> Float[Tensor, "*n 3"]:
    """From the true centre to the predicted one: down, and along the true box's width and length.

    In the order of `dims_hwl`.
    """
    x, y, z = (pairs.said.centers - pairs.true.centers).unbind(-1)
    cos, sin = pairs.true.yaw.cos(), pairs.true.yaw.sin()
    return torch.stack([y, x * sin + z * cos, x * cos - z * sin], dim=-1)


def _enclosing_sizes(pairs: BoxPairs) -> Float[Tensor, "*n 3"]:
    """Height, width and length, along the true box, of the box around both."""
    cos, sin = pairs.turned().cos().abs(), pairs.turned().sin().abs()
    height, width, length = pairs.said.dims_hwl.unbind(-1)
    sizes = [height, length * sin + width * cos, length * cos + width * sin]
    half_said, half_true = torch.stack(sizes, dim=-1) / 2, pairs.true.dims_hwl / 2
    offset = _offset_along_true(pairs)
    high = torch.maximum(offset + half_said, half_true)
    low = torch.minimum(offset - half_said, -half_true)
    return high - low


def product(sizes: Float[Tensor, "*n axes"]) -> Float[Tensor, "*n"]:
    """Over the last axis; `Tensor.prod` makes the host wait in its backward pass."""
    product = sizes[..., 0]
    for axis in range(1, sizes.shape[-1]):
        product = product * sizes[..., axis]
    return product
