"""Other ways to the overlap of two rotated rectangles: what the repository's own are measured with.

Footprints are (x, y, length, width, yaw), yaw counter-clockwise. Each is written as one would
write it first, and is not slowed down.
"""

import numpy as np
import shapely
import torch
from jaxtyping import Float
from torch import Tensor

_SIGNS = ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5))
_TINY = 1e-9


def sorted_area(
    footprints_a: Float[Tensor, "n 5"], footprints_b: Float[Tensor, "n 5"]
) -> Float[Tensor, " n"]:
    """Area of each pair's overlap from 24 candidate corners sorted around their middle.

    Candidates are the 8 corners and the 16 crossings of sides; the usual differentiable way, as in
    the rotated IoU of Zhou et al. (arXiv:1908.03851). The order is found without gradient.
    """
    a, b = _corners(footprints_a), _corners(footprints_b)
    crossings, is_crossing = _crossings(a, b)
    points = torch.cat([a, b, crossings], dim=1)
    used = torch.cat([_is_inside(a, footprints_b), _is_inside(b, footprints_a), is_crossing], dim=1)
    with torch.no_grad():
        count = used.sum(1, keepdim=True).clamp(min=1)
        middle = torch.where(used[..., None], points, 0.0).sum(1) / count
        away = points - middle[:, None]
        angle = torch.where(used, torch.atan2(away[..., 1], away[..., 0]), torch.inf)
        order = angle.argsort(1)
        used = used.gather(1, order)
    ordered = points.gather(1, order[..., None].expand(-1, -1, 2))
    ordered = torch.where(used[..., None], ordered, ordered[:, :1])  # sides of no length
    x, y = ordered.unbind(-1)
    area = (x * y.roll(-1, 1) - y * x.roll(-1, 1)).sum(1).abs() / 2
    return torch.where(used[:, 2], area, 0.0)


def _corners(footprints: Float[Tensor, "n 5"]) -> Float[Tensor, "n 4 2"]:
    x, y = (footprints.new_tensor(_SIGNS) * footprints[:, None, 2:4]).unbind(-1)
    cos, sin = footprints[:, 4:].cos(), footprints[:, 4:].sin()
    return torch.stack([x * cos - y * sin, x * sin + y * cos], -1) + footprints[:, None, :2]


def _is_inside(points: Float[Tensor, "n k 2"], footprints: Float[Tensor, "n 5"]) -> Tensor:
    with torch.no_grad():
        x, y = (points - footprints[:, None, :2]).unbind(-1)
        cos, sin = footprints[:, 4:].cos(), footprints[:, 4:].sin()
        length, width = footprints[:, 2:3] / 2 + _TINY, footprints[:, 3:4] / 2 + _TINY
        is_along = (x * cos + y * sin).abs() <= length
        return is_along & ((y * cos - x * sin).abs() <= width)


def _crossings(a: Float[Tensor, "n 4 2"], b: Float[Tensor, "n 4 2"]) -> tuple[Tensor, Tensor]:
    """Where each side of a meets each side of b, and whether it does."""
    start_a, step_a = a[:, :, None], (a.roll(-1, 1) - a)[:, :, None]
    start_b, step_b = b[:, None], (b.roll(-1, 1) - b)[:, None]
    between = start_b - start_a
    across = _cross(step_a, step_b)
    is_parallel = across.abs() < _TINY
    safe = torch.where(is_parallel, 1.0, across)
    share_a, share_b = _cross(between, step_b) / safe, _cross(between, step_a) / safe
    meets = (share_a >= 0) & (share_a <= 1) & (share_b >= 0) & (share_b <= 1) & ~is_parallel
    points = start_a + share_a[..., None] * step_a
    return points.flatten(1, 2), meets.flatten(1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def sorted_iou_and_union(
    footprints_a: Float[Tensor, "n 5"],
    spans_a: Float[Tensor, "n 2"],
    footprints_b: Float[Tensor, "n 5"],
    spans_b: Float[Tensor, "n 2"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Intersection over union in space of each pair, and the union."""
    high = torch.minimum(spans_a[:, 1], spans_b[:, 1])
    low = torch.maximum(spans_a[:, 0], spans_b[:, 0])
    shared = sorted_area(footprints_a, footprints_b) * (high - low).clamp(min=0)
    volume_a, volume_b = (
        footprints[:, 2] * footprints[:, 3] * (spans[:, 1] - spans[:, 0])
        for footprints, spans in ((footprints_a, spans_a), (footprints_b, spans_b))
    )
    union = volume_a + volume_b - shared
    return shared / union, union


def clipped_areas(footprints_a: np.ndarray, footprints_b: np.ndarray) -> np.ndarray:
    """Areas [n, m] of the overlaps of every footprint with every other: a loop over pairs.

    Polygons are clipped side by side (Sutherland and Hodgman, 1974).
    """
    a, b = (_corners(torch.from_numpy(f)).numpy() for f in (footprints_a, footprints_b))
    return np.array([[_clipped_area(first, second) for second in b] for first in a])


def _clipped_area(polygon: np.ndarray, window: np.ndarray) -> float:
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        if len(polygon) == 0:
            return 0.0
        polygon = _clip(polygon, start, end - start)
    x, y = polygon.T if len(polygon) else np.zeros((2, 1))
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def _clip(polygon: np.ndarray, start: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The part of a polygon to the left of a line."""
    left = step[0] * (polygon[:, 1] - start[1]) - step[1] * (polygon[:, 0] - start[0])
    kept = []
    for k, here in enumerate(left):
        after = (k + 1) % len(polygon)
        if here >= 0:
            kept.append(polygon[k])
        if here * left[after] < 0:
            share = here / (here - left[after])
            kept.append(polygon[k] + share * (polygon[after] - polygon[k]))
    return np.array(kept).reshape(-1, 2)


def shapely_areas(footprints_a: np.ndarray, footprints_b: np.ndarray) -> np.ndarray:
    """Areas [n, m] of the overlaps of every footprint with every other, by shapely's own arrays."""
    a, b = (
        shapely.polygons(_corners(torch.from_numpy(f)).numpy())
        for f in (footprints_a, footprints_b)
    )
    areas: np.ndarray = shapely.area(shapely.intersection(a[:, None], b[None]))
    return areas
