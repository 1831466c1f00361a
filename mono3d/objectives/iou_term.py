"""The IoU loss of an objective: which boxes it compares, when it counts, and how it pulls."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mono3d.codec.point_codec import BoxTargets, PointCodec, gather_points
from mono3d.objectives.losses.iou import BoxPairs, IouLoss, UprightBoxes, product
from mono3d.objectives.ramp import ramp
from mono3d.structures import Batch

OVERLAP = 0.01
"""IoU above which two boxes count as overlapping."""


@dataclass(frozen=True, kw_only=True)
class IouTerm:
    """A loss of whole boxes beside those of their parts, never in place of them.

    Boxes that share nothing with their object teach little, and at first few share anything: the
    term is zero in warm-up, then rises linearly to its weight.
    """

    loss: IouLoss
    weight: float = 1.0
    warmup_epochs: float = 0.0
    ramp_epochs: float = 0.0
    depth_aligned: bool = False
    """Compare boxes at the true depth, moved along their viewing rays: position across the ray,
    size and yaw then learn apart from depth, which the term leaves to the depth loss."""

    def weight_at(self, progress: float) -> float:
        """Factor of the summed losses; `progress` in epochs."""
        share = ramp(progress, warmup_epochs=self.warmup_epochs, ramp_epochs=self.ramp_epochs)
        return self.weight * share


def box_pairs(
    codec: PointCodec,
    said: Mapping[str, Tensor],
    targets: BoxTargets,
    batch: Batch,
    *,
    depth_aligned: bool = False,
) -> BoxPairs:
    """Boxes [n, p] that the positives say, and those that they should.

    Gradients reach offset, depth (unless aligned), sizes and the regressed part of the heading; the
    choice of a direction or a bin gets none, nor do sizes that decoding bounds.
    """
    depth_m = targets.depth_m if depth_aligned else said["depth_m"]
    answers = {**said, "depth_m": depth_m}
    found = codec.boxes_said(answers, batch, index=targets.index, labels=targets.labels)
    labelled = (batch.boxes_cam.centers, batch.boxes_cam.dims_hwl, batch.boxes_cam.yaw)
    centers, dims_hwl, yaw = (
        gather_points(values.flatten(0, 1), targets.object_ids) for values in labelled
    )
    mean_dims = dims_hwl / targets.log_dims.exp()
    return BoxPairs(
        said=UprightBoxes(centers=found.centers, dims_hwl=found.dims_hwl, yaw=found.yaw),
        true=UprightBoxes(centers=centers, dims_hwl=dims_hwl, yaw=yaw),
        typical_volume=product(mean_dims),
    )


@torch.no_grad()
def overlap_statistics(pairs: BoxPairs, valid: Bool[Tensor, "*n"]) -> dict[str, Tensor]:
    """Share of the valid pairs that overlap, and their mean IoU; zeros where none is valid."""
    iou = pairs.iou_and_union()[0]
    count = valid.sum().clamp(min=1)
    return {
        "share_overlapping": ((iou > OVERLAP) & valid).sum() / count,
        "mean_iou": torch.where(valid, iou, 0.0).sum() / count,
    }


def pulls(
    loss: Float[Tensor, ""], said: Mapping[str, Tensor], codec: PointCodec
) -> dict[str, Tensor]:
    """How strongly a loss pulls at each part of the boxes that the positives say.

    Returns:
        Norms of its gradients on the responses `offset`, `depth` (on the log depth, also of a loss
        that reads metres), `dims` and `heading`. The graph is kept, the host waits for nothing.
    """
    heading = list(codec.heading.channels)
    names = ["offset", "log_dims", "log_depth", "depth_m", *heading]
    found = torch.autograd.grad(
        loss,
        [said[name] for name in names],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    gradients = dict(zip(names, found, strict=True))
    slope = codec.depth.std_log * said["depth_m"].detach()
    return {
        "offset": gradients["offset"].norm(),
        "depth": (gradients["log_depth"] + gradients["depth_m"] * slope).norm(),
        "dims": gradients["log_dims"].norm(),
        "heading": torch.stack([gradients[name].norm() for name in heading]).norm(),
    }
