"""Overlap of many rectangles with many, for evaluation and suppression: compiled, on the CPU.

Footprints and spans are those of `box_iou`, which is differentiable and runs on any device; here
polygons are clipped side by side (Sutherland and Hodgman, 1974) in compiled loops, so that neither
is made from the other and tests can hold both to agree. Pairs too far apart to meet cost nothing.
"""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float64, Int64

_MOST_CORNERS = 8
"""A rectangle clipped by the four sides of another gains at most one corner at each."""


def pairwise_overlap_area(
    footprints_a: Float64[np.ndarray, "n 5"], footprints_b: Float64[np.ndarray, "m 5"]
) -> Float64[np.ndarray, "n m"]:
    """Area that each footprint of a shares with each of b, square metres."""
    shared: np.ndarray = _pairwise(*map(np.ascontiguousarray, (footprints_a, footprints_b)))
    return shared


def pairwise_bev_iou(
    footprints_a: Float64[np.ndarray, "n 5"], footprints_b: Float64[np.ndarray, "m 5"]
) -> Float64[np.ndarray, "n m"]:
    """Intersection over union of every footprint of a with every footprint of b.

    Boxes without area overlap with nothing.
    """
    shared = pairwise_overlap_area(footprints_a, footprints_b)
    return _over_union(shared, footprints_a[:, 2:4].prod(1), footprints_b[:, 2:4].prod(1))


def pairwise_iou_3d(
    footprints_a: Float64[np.ndarray, "n 5"],
    spans_a: Float64[np.ndarray, "n 2"],
    footprints_b: Float64[np.ndarray, "m 5"],
    spans_b: Float64[np.ndarray, "m 2"],
) -> Float64[np.ndarray, "n m"]:
    """Intersection over union in space of every upright box of a with every upright box of b.

    Args:
        footprints_a: On a ground plane.
        spans_a: Lowest and highest coordinate upwards, metres.
        footprints_b: On the same plane.
        spans_b: Along the same axis.
    """
    low = np.maximum(spans_a[:, None, 0], spans_b[None, :, 0])
    high = np.minimum(spans_a[:, None, 1], spans_b[None, :, 1])
    shared = pairwise_overlap_area(footprints_a, footprints_b) * (high - low).clip(min=0)
    volume_a, volume_b = (
        footprints[:, 2:4].prod(1) * (spans[:, 1] - spans[:, 0])
        for footprints, spans in ((footprints_a, spans_a), (footprints_b, spans_b))
    )
    return _over_union(shared, volume_a, volume_b)


def rotated_nms(
    footprints: Float64[np.ndarray, "n 5"],
    scores: Float64[np.ndarray, " n"],
    labels: Int64[np.ndarray, " n"],
    max_iou: float,
) -> Int64[np.ndarray, " kept"]:
    """Greedy non-maximum suppression on the ground plane, within each class.

    A box goes when a better box of its class that stays overlaps it by more than max_iou; of equal
    scores the earlier box is the better one.

    Returns:
        Indices of the boxes that stay, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    is_kept = _stays(np.ascontiguousarray(footprints[order]), labels[order], max_iou)
    kept: np.ndarray = order[is_kept]
    return kept


def _over_union(
    shared: Float64[np.ndarray, "n m"],
    size_a: Float64[np.ndarray, " n"],
    size_b: Float64[np.ndarray, " m"],
) -> Float64[np.ndarray, "n m"]:
    united = size_a[:, None] + size_b[None] - shared
    return np.divide(shared, united, out=np.zeros_like(shared), where=shared > 0)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def reaches(footprints):
    """Radius of the circle around each footprint, for compiled callers."""
    return np.sqrt(footprints[:, 2] ** 2 + footprints[:, 3] ** 2) / 2


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def can_meet(a, reach_a, b, reach_b):
    """Whether the circles around two footprints meet; without it nothing is shared."""
    dx, dy, reach = a[0] - b[0], a[1] - b[1], reach_a + reach_b
    return dx * dx + dy * dy < reach * reach


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def rectangle_overlap(a, b, polygons):
    """Area that two footprints share, for compiled callers.

    Args:
        a: Footprint [5].
        b: Footprint [5].
        polygons: Room to work in [2, 8, 2].
    """
    dx, dy = a[0] - b[0], a[1] - b[1]
    # In the frame of b the sides that clip are |x| = length / 2 and |y| = width / 2.
    cos, sin = np.cos(b[4]), np.sin(b[4])
    _place_corners(dx * cos + dy * sin, dy * cos - dx * sin, a[2], a[3], a[4] - b[4], polygons[0])
    count = 4
    for side in range(4):
        limit = b[2] / 2 if side < 2 else b[3] / 2
        source, target = polygons[side % 2], polygons[1 - side % 2]
        count = _clip(source, count, side // 2, 1.0 - 2.0 * (side % 2), limit, target)
        if count < 3:
            return 0.0
    doubled = 0.0
    corners = polygons[0]
    for k in range(count):
        after = k + 1 if k + 1 < count else 0
        doubled += corners[k, 0] * corners[after, 1] - corners[k, 1] * corners[after, 0]
    return max(doubled / 2, 0.0)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _place_corners(x, y, length, width, yaw, corners):
    """Corners of a rectangle, counter-clockwise."""
    cos, sin = np.cos(yaw) / 2, np.sin(yaw) / 2
    corners[0, 0], corners[0, 1] = x + length * cos - width * sin, y + length * sin + width * cos
    corners[1, 0], corners[1, 1] = x - length * cos - width * sin, y - length * sin + width * cos
    corners[2, 0], corners[2, 1] = x - length * cos + width * sin, y - length * sin - width * cos
    corners[3, 0], corners[3, 1] = x + length * cos + width * sin, y + length * sin - width * cos


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _clip(source, count, axis, sign, limit, target):
    """The part of a polygon where sign x coordinate <= limit; returns its number of corners."""
    kept = 0
    for k in range(count):
        after = k + 1 if k + 1 < count else 0
        here = limit - sign * source[k, axis]
        there = limit - sign * source[after, axis]
        if here >= 0:
            target[kept, 0], target[kept, 1] = source[k, 0], source[k, 1]
            kept += 1
        if (here > 0 and there < 0) or (here < 0 and there > 0):
            share = here / (here - there)
            other = 1 - axis
            target[kept, other] = source[k, other] + share * (
                source[after, other] - source[k, other]
            )
            target[kept, axis] = sign * limit
            kept += 1
    return kept


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _pairwise(a, b):
    shared = np.zeros((len(a), len(b)))
    polygons = np.empty((2, _MOST_CORNERS, 2))
    reach_a, reach_b = reaches(a), reaches(b)
    for i in range(len(a)):
        for j in range(len(b)):
            if can_meet(a[i], reach_a[i], b[j], reach_b[j]):
                shared[i, j] = rectangle_overlap(a[i], b[j], polygons)
    return shared


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _stays(footprints, labels, max_iou):
    """Which boxes stay, best first."""
    count = len(footprints)
    polygons = np.empty((2, _MOST_CORNERS, 2))
    is_kept = np.ones(count, dtype=np.bool_)
    reach = reaches(footprints)
    areas = footprints[:, 2] * footprints[:, 3]
    for i in range(count):
        for j in range(i):
            if not (is_kept[j] and labels[j] == labels[i]):
                continue
            if can_meet(footprints[i], reach[i], footprints[j], reach[j]):
                shared = rectangle_overlap(footprints[i], footprints[j], polygons)
                if shared > max_iou * (areas[i] + areas[j] - shared):
                    is_kept[i] = False
                    break
    return is_kept
