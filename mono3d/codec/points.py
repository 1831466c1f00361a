"""FCOS points: where they lie, which object each one learns, and how central it is.

Source: FCOS3D (arXiv:2104.10956), assignment of section 3.2 and of the authors' configuration:
points at x * stride + stride // 2, a square of 1.5 strides around the projected 3D centre, level
ranges on the largest side distance to the 2D box, the nearest centre wins, and centerness
exp(-2.5 * distance / (sqrt(2) * 1.5 * stride)).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

RADIUS_STRIDES = 1.5
CENTERNESS_SHARPNESS = 2.5


@dataclass(frozen=True, kw_only=True)
class PointGrid:
    """The points of all levels of one image, one level after the other."""

    centers_px: Float[Tensor, "points 2"]
    """Pixel (u, v) of each point."""
    strides_px: Float[Tensor, " points"]
    levels: Int64[Tensor, " points"]

    def __len__(self) -> int:
        return len(self.strides_px)


def level_size(image_size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of the feature map of one stride; partial cells count."""
    return -(-image_size[0] // stride), -(-image_size[1] // stride)


def make_points(
    image_size: tuple[int, int], strides: Sequence[int], device: torch.device | None = None
) -> PointGrid:
    """Points of an image (height, width) for the given strides, finest first."""
    centers, point_strides, levels = [], [], []
    for level, stride in enumerate(strides):
        height, width = level_size(image_size, stride)
        rows, columns = (torch.arange(n, device=device) for n in (height, width))
        v, u = torch.meshgrid(rows, columns, indexing="ij")
        centers.append(torch.stack([u, v], dim=-1).reshape(-1, 2) * stride + stride // 2)
        point_strides.append(torch.full((height * width,), float(stride), device=device))
        levels.append(torch.full((height * width,), level, device=device))
    return PointGrid(
        centers_px=torch.cat(centers).float(),
        strides_px=torch.cat(point_strides),
        levels=torch.cat(levels),
    )


def level_ranges_px(strides: Sequence[int], first_limit_px: float) -> list[tuple[float, float]]:
    """Ranges of the largest side distance that each level answers for; they double by level."""
    limits = [-1.0, *(first_limit_px * 2.0**i for i in range(len(strides) - 1)), math.inf]
    return list(itertools.pairwise(limits))


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Object of each point; `slot` is meaningless where `positive` is False."""

    slot: Int64[Tensor, " points"]
    centerness: Float[Tensor, " points"]
    positive: Bool[Tensor, " points"]


def assign(
    grid: PointGrid,
    ranges_px: Sequence[tuple[float, float]],
    *,
    centers_px: Float[Tensor, "n 2"],
    boxes_px: Float[Tensor, "n 4"],
    radius_strides: float = RADIUS_STRIDES,
) -> Assignment:
    """Give each point the object that it learns, if any.

    Args:
        grid: From `make_points`.
        ranges_px: From `level_ranges_px`, one pair a level.
        centers_px: Projected 3D centres of the n objects.
        boxes_px: Their 2D boxes (left, top, right, bottom).
        radius_strides: Half the side of the square around a centre whose points learn the object.
    """
    if len(centers_px) == 0:
        none = torch.zeros(len(grid), dtype=torch.int64)
        return Assignment(slot=none, centerness=torch.zeros(len(grid)), positive=none.bool())
    u, v = grid.centers_px.unbind(-1)
    center_u, center_v = centers_px.T[..., None]
    left, top, right, bottom = boxes_px.T[..., None]
    low, high = torch.tensor(ranges_px, dtype=torch.float32)[grid.levels].unbind(-1)
    aside, below = u - center_u, v - center_v  # like all that follows: objects x points
    largest = torch.maximum(torch.maximum(u - left, right - u), torch.maximum(v - top, bottom - v))
    reaches = torch.maximum(aside.abs(), below.abs()) < radius_strides * grid.strides_px
    allowed = reaches & (largest > low) & (largest <= high)
    distance = torch.where(allowed, torch.hypot(aside, below), torch.inf)
    nearest, slot = distance.min(dim=0)
    reach = math.sqrt(2) * radius_strides * grid.strides_px
    return Assignment(
        slot=slot,
        centerness=torch.exp(-CENTERNESS_SHARPNESS * nearest / reach),
        positive=torch.isfinite(nearest),
    )
