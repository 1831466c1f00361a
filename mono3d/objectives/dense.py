"""The dense detector's objective: what FCOS3D adds to the terms of a box.

Source: FCOS3D (arXiv:2104.10956), section 3.3.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mono3d.codec.point_codec import BoxTargets
from mono3d.objectives.detection import PointObjective, images_labelled
from mono3d.objectives.losses.depth import SMOOTH_L1_BETA
from mono3d.objectives.losses.focal import sigmoid_focal
from mono3d.objectives.losses.heading import axis_losses
from mono3d.structures import Batch


class DenseObjective(PointObjective):
    """Focal loss over all points, centerness and the axis of the heading at the positives."""

    def family_sums(
        self,
        responses: Mapping[str, Tensor],
        said: Mapping[str, Tensor],
        targets: BoxTargets,
        batch: Batch,
    ) -> dict[str, Float[Tensor, ""]]:
        """Terms `classification`, `centerness`, `axis` and `direction`."""
        valid = targets.valid.float()
        centerness = F.binary_cross_entropy_with_logits(
            said["centerness_logits"], targets.weight, reduction="none"
        )
        heading = axis_losses(said, targets.alpha, beta=SMOOTH_L1_BETA)
        return {
            "classification": _classification(responses["class_logits"], targets, batch),
            "centerness": (centerness * valid).sum(),
            **{name: (losses * valid).sum() for name, losses in heading.items()},
        }


def _classification(
    logits: Float[Tensor, "n points classes"], targets: BoxTargets, batch: Batch
) -> Float[Tensor, ""]:
    """Focal loss over all points of labelled frames."""
    flat = targets.index * logits.shape[-1] + targets.labels
    wanted = torch.zeros_like(logits).flatten(1)
    wanted = wanted.scatter_reduce(1, flat, targets.valid.float(), "amax").view_as(logits)
    losses = sigmoid_focal(logits, wanted, alpha=0.25, gamma=2.0)
    return (losses.sum((1, 2)) * images_labelled(batch)).sum()
