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

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

RADIUS_STRIDES = 1.5
CENTERNESS_SHARPNESS = 2.5
_ROUNDING = 1e-3
"""Strides by which rounding may at most misplace the edge of a reach."""


@dataclass(frozen=True, kw_only=True)
class PointGrid:
    """The points of all levels of one image, one level after the other."""

    centers_px: Float[Tensor, "points 2"]
    """Pixel (u, v) of each point."""
    strides_px: Float[Tensor, " points"]

    def __len__(self) -> int:
        return len(self.strides_px)


def level_size(image_size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of the feature map of one stride; partial cells count."""
    return -(-image_size[0] // stride), -(-image_size[1] // stride)


def make_points(
    image_size: tuple[int, int], strides: Sequence[int], device: torch.device | None = None
) -> PointGrid:
    """Points of an image (height, width) for the given strides, finest first."""
    centers, point_strides = [], []
    for stride in strides:
        height, width = level_size(image_size, stride)
        rows, columns = (torch.arange(n, device=device) for n in (height, width))
        v, u = torch.meshgrid(rows, columns, indexing="ij")
        centers.append(torch.stack([u, v], dim=-1).reshape(-1, 2) * stride + stride // 2)
        point_strides.append(torch.full((height * width,), float(stride), device=device))
    return PointGrid(centers_px=torch.cat(centers).float(), strides_px=torch.cat(point_strides))


def level_ranges_px(strides: Sequence[int], first_limit_px: float) -> list[tuple[float, float]]:
    """Ranges of the largest side distance that each level answers for; they double by level."""
    limits = [-1.0, *(first_limit_px * 2.0**i for i in range(len(strides) - 1)), math.inf]
    return list(itertools.pairwise(limits))


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The points of some images that learn an object, image by image, in their order."""

    images: Int64[Tensor, " m"]
    points: Int64[Tensor, " m"]
    """Number of each in its image's grid."""
    objects: Int64[Tensor, " m"]
    centerness: Float[Tensor, " m"]
    """In (0, 1]."""


class PointAssigner:
    """Gives points their objects, in images of one size.

    Only the few points within reach of each centre are looked at.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        strides: Sequence[int],
        ranges_px: Sequence[tuple[float, float]],
        radius_strides: float = RADIUS_STRIDES,
    ) -> None:
        """Prepare what all images share.

        Args:
            image_size: Height and width, pixels.
            strides: Of the levels, finest first.
            ranges_px: From `level_ranges_px`, one pair a level.
            radius_strides: Half the side of the square around a centre whose points learn the
                object.
        """
        sizes = torch.tensor([level_size(image_size, stride) for stride in strides])
        counts, strides_px = sizes.prod(1), torch.tensor(strides)
        self.num_points = int(counts.sum())
        """Of one image."""
        self._starts = counts.cumsum(0) - counts
        self._widths = sizes[:, 1]
        self._corner_px = math.sqrt(2) * radius_strides * strides_px.float()
        self._steps = torch.arange(math.floor(2 * (radius_strides + _ROUNDING)) + 1)
        # Objects x levels x (columns, rows) x steps from the first point that may be in reach.
        self._stride_px = strides_px.float()[:, None, None]
        self._first_px = (strides_px // 2).float()[:, None, None]
        self._reach_px = radius_strides * self._stride_px
        self._limit = sizes.flip(1)[..., None]
        # Objects x levels x rows x columns.
        self._above_px, self._up_to_px = torch.tensor(ranges_px).T[..., None, None]

    def __call__(
        self,
        centers_px: Float[Tensor, "n 2"],
        boxes_px: Float[Tensor, "n 4"],
        images: Int64[Tensor, " n"],
    ) -> Assignment:
        """Assign n objects.

        Args:
            centers_px: Their projected 3D centres.
            boxes_px: Their 2D boxes (left, top, right, bottom).
            images: The image of each.
        """
        center = centers_px[:, None, :, None]
        near_side, far_side = boxes_px.view(-1, 2, 1, 2, 1).unbind(1)
        first = (center - self._first_px - self._reach_px) / self._stride_px - _ROUNDING
        cell = first.ceil().long() + self._steps
        point_px = cell * self._stride_px + self._first_px
        offset = point_px - center
        is_near = (cell >= 0) & (cell < self._limit) & (offset.abs() < self._reach_px)
        in_column, in_row = _crossed(is_near)
        to_side = torch.maximum(point_px - near_side, far_side - point_px)
        largest = torch.maximum(*_crossed(to_side))
        allowed = in_column & in_row & (largest > self._above_px) & (largest <= self._up_to_px)
        objects, levels, rows, columns = allowed.nonzero().unbind(1)
        aside, below = offset[objects, levels, 0, columns], offset[objects, levels, 1, rows]
        column, row = cell[objects, levels, 0, columns], cell[objects, levels, 1, rows]
        distance = torch.hypot(aside, below)
        points = self._starts[levels] + row * self._widths[levels] + column
        # Of the objects that reach for a point, the nearest; of several as near, the first.
        claimed = images[objects] * self.num_points + points
        order = torch.from_numpy(np.lexsort((distance.numpy(), claimed.numpy())))
        is_first = torch.ones_like(order, dtype=torch.bool)
        is_first[1:] = claimed[order].diff() > 0
        won = order[is_first]
        objects, reach_px = objects[won], self._corner_px[levels[won]]
        return Assignment(
            images=images[objects],
            points=points[won],
            objects=objects,
            centerness=torch.exp(-CENTERNESS_SHARPNESS * distance[won] / reach_px),
        )


def _crossed(values: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and rows [..., 2, k] as [..., 1, k] and [..., k, 1], to meet in every pair."""
    columns, rows = values.unbind(-2)
    return columns[..., None, :], rows[..., None]
