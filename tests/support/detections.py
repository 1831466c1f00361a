"""Detections made by hand or from labels."""

from collections.abc import Sequence

import torch

from mono3d.structures import Boxes3D, Detections


def detections_at(
    centers: Sequence[Sequence[float]],
    *,
    scores: Sequence[float] | None = None,
    labels: Sequence[int] | None = None,
    yaw: float = 0.0,
    velocity: tuple[float, float] = (0.0, 0.0),
    attribute: int = -1,
) -> Detections:
    """Boxes of 1.5 x 2 x 4 m (h, w, l) at the given places, best score first."""
    n = len(centers)
    boxes = Boxes3D(
        centers=torch.tensor(centers, dtype=torch.float32).reshape(n, 3),
        dims_hwl=torch.tensor([1.5, 2.0, 4.0]).repeat(n, 1),
        yaw=torch.full((n,), yaw),
        labels=torch.tensor(labels if labels is not None else [0] * n, dtype=torch.int64),
        velocity=torch.tensor(velocity).repeat(n, 1),
        attributes=torch.full((n,), attribute, dtype=torch.int64),
        object_ids=torch.arange(n),
        num_points=torch.full((n,), -1, dtype=torch.int64),
        visibility=torch.full((n,), torch.nan),
        valid=torch.ones(n, dtype=torch.bool),
    )
    given = scores if scores is not None else [1.0 - 0.01 * i for i in range(n)]
    return Detections(boxes=boxes, scores=torch.tensor(given, dtype=torch.float32))


def perfect_detections(boxes: Boxes3D) -> Detections:
    """What a detector that is always right and always sure would say."""
    return Detections(boxes=boxes, scores=torch.ones(len(boxes)))
