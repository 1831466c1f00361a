"""Where the cells of a feature map are in space, and the labelled objects among them.

What a distillation method knows of a map; each family of detectors states it for its own maps.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mono3d.codec.bev_grid import BevGrid
from mono3d.codec.depth import lid_bin_edges
from mono3d.codec.image_objects import TargetObjects, cells_inside
from mono3d.codec.points import level_size, make_points
from mono3d.geometry.camera import unproject
from mono3d.structures import Boxes3D

BOX_NUMBERS = 5
"""That tell an attention about an object's box."""
RAY_DEPTHS = 16
"""Places along a cell's ray."""
_RAY_RANGE_M = (2.0, 70.0)
_LOW_M, _HIGH_M = (-50.0, -5.0, 0.0), (50.0, 5.0, 70.0)
"""Range of x (right), y (down) and z (forward) in a camera's frame that is brought to [0, 1]."""
_DEPTH_SCALE_M = 60.0
_BOX_SCALE_M = 10.0


@dataclass(frozen=True, kw_only=True)
class MapLayout:
    """Of n maps (of images, or of frames on a grid) with k padded object slots."""

    size: tuple[int, int]
    """Rows and columns."""
    places: Float[Tensor, "n cells d 3"]
    """One or several places of each cell, in the unit cube."""
    inside: Bool[Tensor, "n k cells"]
    """Which cells show or hold each object; none of a slot that is not valid."""
    where: Float[Tensor, "n k 2"]
    """Column and row of each object's centre; the map's edges are at -1 and 1."""
    box: Float[Tensor, "n k 5"]
    """Its box, in numbers of the order of one."""
    labels: Int64[Tensor, "n k"]
    valid: Bool[Tensor, "n k"]


def image_layout(
    objects: TargetObjects,
    *,
    image_size: tuple[int, int],
    stride: int,
    depth_m: Float[Tensor, "n cells"] | None,
    projection: Float[Tensor, "n 3 4"],
) -> MapLayout:
    """Layout of a map of images: cells are where their pixel and a depth say.

    Args:
        objects: Of the images.
        image_size: Height and width, pixels.
        stride: Of the map.
        depth_m: Of each cell; None places cells at `RAY_DEPTHS` fixed depths along their rays, as
            PETR (arXiv:2203.05625) does.
        projection: Of each image's camera.
    """
    size = level_size(image_size, stride)
    cells_px = make_points(image_size, (stride,), projection.device).centers_px
    if depth_m is None:
        edges = lid_bin_edges(RAY_DEPTHS, *_RAY_RANGE_M, projection.device)
        depths = ((edges[1:] + edges[:-1]) / 2).expand(len(projection), len(cells_px), -1)
    else:
        depths = depth_m[..., None]
    places = unproject(
        cells_px[None, :, None].expand(*depths.shape, 2), depths, projection[:, None, None]
    )
    axes = zip(places.unbind(-1), _LOW_M, _HIGH_M, strict=True)
    unit = torch.stack([(x - low) / (high - low) for x, low, high in axes], dim=-1)
    extent_px = (size[0] * stride, size[1] * stride)
    return MapLayout(
        size=size,
        places=unit.clamp(0, 1),
        inside=cells_inside(objects, image_size, stride),
        where=_on_map(objects.center_px, extent_px),
        box=_box_in_image(objects, extent_px),
        labels=objects.labels,
        valid=objects.valid,
    )


def grid_layout(grid: BevGrid, boxes: Boxes3D) -> MapLayout:
    """Layout of a map of frames on a grid; objects are where they stand.

    Args:
        grid: Of the map.
        boxes: Of the bev frame [n k], `valid` where they count.
    """
    centers = grid.cell_centers(boxes.yaw.device)
    on_map = _unit_square(grid, centers)
    places = torch.cat([on_map, torch.zeros_like(on_map[:, :1])], dim=-1)
    unit = _unit_square(grid, boxes.centers[..., :2])
    length_width = boxes.dims_hwl[..., 1:].flip(-1) / _BOX_SCALE_M
    return MapLayout(
        size=grid.size,
        places=places.expand(len(boxes.yaw), -1, 3)[:, :, None],
        inside=_standing(grid, boxes, centers),
        where=2 * unit - 1,
        box=torch.cat([unit, length_width, boxes.yaw[..., None] / torch.pi], dim=-1),
        labels=boxes.labels,
        valid=boxes.valid,
    )


def _unit_square(grid: BevGrid, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
    """Places of the grid between 0 and 1."""
    rows, columns = grid.size
    column, row = grid.to_cells(points).unbind(-1)
    return torch.stack([(column + 0.5) / columns, (row + 0.5) / rows], dim=-1)


def _standing(
    grid: BevGrid, boxes: Boxes3D, centers: Float[Tensor, "cells 2"]
) -> Bool[Tensor, "n k cells"]:
    """Cells whose middle an object stands on, and the one that holds its centre."""
    away = centers - boxes.centers[..., None, :2]
    cos, sin = boxes.yaw.cos()[..., None], boxes.yaw.sin()[..., None]
    along = away[..., 0] * cos + away[..., 1] * sin
    across = away[..., 1] * cos - away[..., 0] * sin
    half = boxes.dims_hwl[..., None] / 2
    stands = (along.abs() <= half[..., 2, :]) & (across.abs() <= half[..., 1, :])
    own, _ = grid.nearest_cells(boxes.centers[..., :2])
    index = own[..., 1] * grid.size[1] + own[..., 0]
    is_own = index[..., None] == torch.arange(len(centers), device=index.device)
    return (stands | is_own) & boxes.valid[..., None]


def _on_map(
    center_px: Float[Tensor, "n k 2"], extent_px: tuple[int, int]
) -> Float[Tensor, "n k 2"]:
    """Pixel i of n has its middle at (2 i + 1) / n - 1."""
    height, width = extent_px
    u, v = center_px.unbind(-1)
    return torch.stack([(2 * u + 1) / width - 1, (2 * v + 1) / height - 1], dim=-1)


def _box_in_image(
    objects: TargetObjects, extent_px: tuple[int, int]
) -> Float[Tensor, "n k numbers"]:
    height, width = extent_px
    left, top, right, bottom = objects.box_px.unbind(-1)
    return torch.stack(
        [
            (left + right) / (2 * width),
            (top + bottom) / (2 * height),
            (right - left) / width,
            (bottom - top) / height,
            objects.depth_m / _DEPTH_SCALE_M,
        ],
        dim=-1,
    )
