"""Boxes by hand: what a test does not say is the same for all and of no interest."""

import math
from collections.abc import Sequence

import torch

from mono3d.structures import Boxes3D


def make_boxes(
    centers: Sequence[Sequence[float]],
    *,
    labels: Sequence[int] | None = None,
    dims_hwl: Sequence[float] = (1.5, 2.0, 4.0),
    yaw: float = -math.pi / 2,
) -> Boxes3D:
    """Valid boxes of one size and heading (in the camera frame by default: straight away)."""
    count = len(centers)
    return Boxes3D(
        centers=torch.tensor(centers, dtype=torch.float32).reshape(count, 3),
        dims_hwl=torch.tensor(dims_hwl).expand(count, 3),
        yaw=torch.full((count,), yaw),
        labels=torch.tensor([0] * count if labels is None else labels, dtype=torch.int64),
        velocity=torch.zeros(count, 2),
        attributes=torch.full((count,), -1),
        object_ids=torch.arange(count),
        num_points=torch.full((count,), -1),
        visibility=torch.full((count,), torch.nan),
        valid=torch.ones(count, dtype=torch.bool),
    )
