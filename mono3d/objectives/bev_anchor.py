"""The objective of the anchor head.

Source: SECOND (Yan et al., Sensors 2018), sections 3.2 and 3.3: focal loss of classes, smooth L1 of
residuals with the sine of the yaw's error, and a choice of direction. CaDDN (arXiv:2103.01100) has
the same.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.codec.anchors import AnchorCodec
from mono3d.codec.bev_codec import BevTargets
from mono3d.codec.heading import encode_direction
from mono3d.codec.point_codec import gather_points
from mono3d.geometry.box_iou import footprints_bev, paired_iou_3d
from mono3d.objectives.bev import BevObjective, frames_labelled
from mono3d.objectives.losses.depth import SMOOTH_L1_BETA, smooth_l1
from mono3d.objectives.losses.focal import sigmoid_focal
from mono3d.objectives.losses.heading import choice
from mono3d.objectives.losses.quality_focal import quality_focal
from mono3d.structures import Batch


class AnchorObjective(BevObjective):
    """Focal loss over all anchors, boxes and directions at those that learn one."""

    codec: AnchorCodec

    def __init__(self, *, has_quality: bool = False, **common: Any) -> None:
        """Keep the parts.

        Args:
            has_quality: Class scores learn how far the box that an anchor says overlaps its object
                in space, by the quality focal loss (GFL, arXiv:2006.04388), as CMKD's teachers do.
            common: Of `BevObjective`.
        """
        super().__init__(**common)
        self._has_quality = has_quality

    def family_sums(
        self, responses: Mapping[str, Tensor], targets: BevTargets, batch: Batch
    ) -> dict[str, Float[Tensor, ""]]:
        """Terms `classification`, `box` and `direction`."""
        valid = targets.boxes.valid.float()
        said = gather_points(responses["box_residuals"], targets.index)
        wanted = self.codec.residuals(targets.boxes, targets.index)
        direction = choice(
            gather_points(responses["direction"], targets.index),
            encode_direction(targets.boxes.yaw),
        )
        return {
            "classification": self._classification(responses, said, targets, batch),
            "box": (box_residual_losses(said, wanted) * valid).sum(),
            "direction": (direction * valid).sum(),
        }

    def _classification(
        self,
        responses: Mapping[str, Tensor],
        residuals: Float[Tensor, "b p 7"],
        targets: BevTargets,
        batch: Batch,
    ) -> Float[Tensor, ""]:
        """Over anchors that learn an object, and those far from any of their class."""
        logits, valid = responses["class_logits"], targets.boxes.valid.float()
        learns = torch.zeros_like(logits[..., 0])
        learns = learns.scatter_reduce(1, targets.index, valid, "amax")
        quality = valid
        if self._has_quality:
            quality = valid * self._overlaps(responses, residuals, targets)
        flat = targets.index * logits.shape[-1] + targets.boxes.labels
        wanted = torch.zeros_like(logits).flatten(1)
        wanted = wanted.scatter_reduce(1, flat, quality, "amax").view_as(logits)
        if self._has_quality:
            losses = quality_focal(logits, wanted)
        else:
            losses = sigmoid_focal(logits, wanted, alpha=0.25, gamma=2.0)
        counts = (learns > 0) | ~self.codec.is_ignored(batch)
        return ((losses.sum(-1) * counts).sum(1) * frames_labelled(batch)).sum()

    @torch.no_grad()
    def _overlaps(
        self,
        responses: Mapping[str, Tensor],
        residuals: Float[Tensor, "b p 7"],
        targets: BevTargets,
    ) -> Float[Tensor, "b p"]:
        """IoU in space of the box that each positive says with the one that it learns."""
        direction = gather_points(responses["direction"], targets.index)
        found = self.codec.boxes_said(
            {"box_residuals": residuals, "direction": direction}, index=targets.index
        )
        places = [footprints_bev(b.centers, b.dims_hwl, b.yaw) for b in (found, targets.boxes)]
        iou, _ = paired_iou_3d(*places[0], *places[1])
        return iou.clamp(0, 1)


def box_residual_losses(
    said: Float[Tensor, "*n 7"], wanted: Float[Tensor, "*n 7"]
) -> Float[Tensor, "*n"]:
    """Smooth L1 of residuals, and of the sine of the yaw's error, which half turns leave alone."""
    turned = (said[..., 6:] - wanted[..., 6:]).sin()
    error = torch.cat([said[..., :6] - wanted[..., :6], turned], dim=-1)
    return smooth_l1(error, torch.zeros_like(error), beta=SMOOTH_L1_BETA).sum(-1)
