"""Overlaps of KITTI's labels and results, frame by frame: in the image, from above, in space.

As the official program (evaluate_object_3d_offline.cpp) has them. It leaves footprints to Boost's
polygons, which decide by integers where two sides cross: the larger extent of both boxes is 10^7
steps. Areas differ from the exact ones of `geometry.fast_iou` by some 1e-7, and now and then a box
lies so near a threshold that this counts; so it is done likewise. Compiled; no torch.
"""

from dataclasses import dataclass
from typing import NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Float64, Int64

from mono3d.evaluation.kitti_tables import DONT_CARE, KittiTable

KINDS = ("2d", "bev", "3d")
_STEPS = 1e7
_NEAR_END = 0.01


@dataclass(frozen=True, kw_only=True)
class KittiOverlaps:
    """Labels and results that overlap, by label, then by result.

    Attributes:
        starts: First pair of each label, and the number of pairs.
        results: Row of each pair's result.
        iou: Of each kind in KINDS.
        in_dont_care: Largest share of each result that one DontCare region covers, by kind.
    """

    starts: Int64[np.ndarray, " starts"]
    results: Int64[np.ndarray, " pairs"]
    iou: Float64[np.ndarray, "pairs 3"]
    in_dont_care: Float64[np.ndarray, "results 3"]


class _Shapes(NamedTuple):
    """What overlaps are made of."""

    starts: Int64[np.ndarray, " starts"]
    rectangles: Float64[np.ndarray, "n 4"]
    corners: Float64[np.ndarray, "n 4 2"]
    """On (x, z), clockwise."""
    spans: Float64[np.ndarray, "n 2"]
    """Lowest and highest -y."""
    sizes: Float64[np.ndarray, "n 3"]
    """Areas and volumes, by kind."""


def find_overlaps(labels: KittiTable, results: KittiTable, *, above: float) -> KittiOverlaps:
    """Pairs of one frame whose overlap exceeds a value in one kind or more.

    Args:
        labels: Of the same frames as the results.
        results: Of the same frames as the labels.
        above: Overlaps up to here are of no interest.
    """
    starts, pairs, iou, in_dont_care = _find(
        _shapes(labels), _shapes(results), labels.types == DONT_CARE, above
    )
    return KittiOverlaps(starts=starts, results=pairs, iou=iou, in_dont_care=in_dont_care)


def _shapes(table: KittiTable) -> _Shapes:
    height, width, length = table.dims_hwl.T
    along = length[:, None] * (np.array([1, 1, -1, -1]) / 2)
    across = width[:, None] * (np.array([1, -1, -1, 1]) / 2)
    cos, sin = np.cos(table.yaw)[:, None], np.sin(table.yaw)[:, None]
    x, y, z = table.bottoms.T
    corner_x = x[:, None] + along * cos + across * sin
    corner_z = z[:, None] - along * sin + across * cos
    left, top, right, bottom = table.rectangles_px.T
    ground = length * width
    return _Shapes(
        starts=table.starts,
        rectangles=np.ascontiguousarray(table.rectangles_px),
        corners=np.stack([corner_x, corner_z], axis=-1),
        spans=np.stack([-y, -y + height], axis=1),
        sizes=np.stack([(right - left) * (bottom - top), ground, ground * height], axis=1),
    )


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _find(labels, results, is_dont_care, above):
    starts = np.zeros(len(labels.sizes) + 1, dtype=np.int64)
    most = 0
    for frame in range(len(labels.starts) - 1):
        many = results.starts[frame + 1] - results.starts[frame]
        most += many * (labels.starts[frame + 1] - labels.starts[frame])
    # Room for all pairs; the memory that few of them take is only reserved.
    pairs, iou = np.empty(most, dtype=np.int64), np.empty((most, 3))
    covered = np.zeros((len(results.sizes), 3))
    room = np.empty((2, 4, 2)), np.empty((2, 4, 4)), np.empty((24, 3))
    shared = np.empty(3)
    count = 0
    for frame in range(len(labels.starts) - 1):
        for i in range(labels.starts[frame], labels.starts[frame + 1]):
            for j in range(results.starts[frame], results.starts[frame + 1]):
                shared[0] = _shared_px(labels.rectangles[i], results.rectangles[j])
                shared[1] = _shared_ground(labels.corners[i], results.corners[j], room)
                shared[2] = shared[1] * _shared_height(labels.spans[i], results.spans[j])
                if is_dont_care[i]:
                    _cover(shared, results.sizes[j], covered[j])
                elif _over_union(shared, labels.sizes[i], results.sizes[j], iou[count]) > above:
                    pairs[count] = j
                    count += 1
            starts[i + 1] = count
    return starts, pairs[:count], iou[:count], covered


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _cover(shared, size, covered):
    """Remember the largest share of a result that a DontCare region covers, by kind."""
    for kind in range(3):
        if shared[kind] > 0:
            covered[kind] = max(covered[kind], shared[kind] / size[kind])


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _over_union(shared, size_a, size_b, iou):
    """Write the overlap of each kind; returns the largest."""
    for kind in range(3):
        united = size_a[kind] + size_b[kind] - shared[kind]
        iou[kind] = shared[kind] / united if shared[kind] > 0 else 0.0
    return max(iou[0], iou[1], iou[2])


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _shared_px(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _shared_height(a, b):
    return max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _shared_ground(a, b, room):
    """Area that two clockwise rectangles share: corners inside, and where sides cross."""
    rounded, sides, points = room
    largest = 0.0
    for axis in range(2):
        low_a, high_a = _extent(a, axis)
        low_b, high_b = _extent(b, axis)
        if low_a > high_b or low_b > high_a:
            return 0.0
        largest = max(largest, max(high_a, high_b) - min(low_a, low_b))
    steps_per_m = np.floor(0.5 + _STEPS / largest)
    for axis in range(2):
        low = min(_extent(a, axis)[0], _extent(b, axis)[0])
        for k in range(4):
            rounded[0, k, axis] = np.floor(0.5 + (a[k, axis] - low) * steps_per_m)
            rounded[1, k, axis] = np.floor(0.5 + (b[k, axis] - low) * steps_per_m)
    _sides(rounded[0], rounded[1], sides[0])
    _sides(rounded[1], rounded[0], sides[1])
    count = np.int64(0)  # a literal would be compiled for, too
    for i in range(4):
        if _is_inside(sides[0, i]):
            points[count, 0], points[count, 1] = a[i, 0], a[i, 1]
            count += 1
        if _is_inside(sides[1, i]):
            points[count, 0], points[count, 1] = b[i, 0], b[i, 1]
            count += 1
        for j in range(4):
            crosses_b = sides[0, i, j] * sides[0, (i + 1) % 4, j] < 0
            if crosses_b and sides[1, j, i] * sides[1, (j + 1) % 4, i] < 0:
                _cross(a, i, b, j, sides, points[count])
                count += 1
    return _area_around(points, count)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _sides(corners, others, sides):
    """On which side of each of the others' sides each corner lies: left above 0."""
    for i in range(4):
        for j in range(4):
            after = (j + 1) % 4
            dx, dz = others[after, 0] - others[j, 0], others[after, 1] - others[j, 1]
            x, z = corners[i, 0] - others[j, 0], corners[i, 1] - others[j, 1]
            sides[i, j] = dx * z - dz * x


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _cross(a, i, b, j, sides, point):
    """Where side i of a crosses side j of b, on the one that Boost prefers."""
    share_a = sides[0, i, j] / (sides[0, i, j] - sides[0, (i + 1) % 4, j])
    share_b = sides[1, j, i] / (sides[1, j, i] - sides[1, (j + 1) % 4, i])
    a_x, a_z = a[(i + 1) % 4, 0] - a[i, 0], a[(i + 1) % 4, 1] - a[i, 1]
    b_x, b_z = b[(j + 1) % 4, 0] - b[j, 0], b[(j + 1) % 4, 1] - b[j, 1]
    ends_a = min(share_a, 1 - share_a) < _NEAR_END
    ends_b = min(share_b, 1 - share_b) < _NEAR_END
    is_shorter = a_x * a_x + a_z * a_z <= b_x * b_x + b_z * b_z
    if ends_a if ends_a != ends_b else is_shorter:
        point[0], point[1] = a[i, 0] + share_a * a_x, a[i, 1] + share_a * a_z
    else:
        point[0], point[1] = b[j, 0] + share_b * b_x, b[j, 1] + share_b * b_z


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _area_around(points, count):
    """Area of the convex polygon with these corners [count, 3], whose last column is room."""
    if count < 3:
        return 0.0
    x, z = 0.0, 0.0
    for k in range(count):
        x += points[k, 0] / count
        z += points[k, 1] / count
    for k in range(count):
        points[k, 0] -= x
        points[k, 1] -= z
        points[k, 2] = np.arctan2(points[k, 1], points[k, 0])
    _sort_by_angle(points, count)
    doubled = 0.0
    for k in range(count):
        after = (k + 1) % count
        doubled += points[k, 0] * points[after, 1] - points[k, 1] * points[after, 0]
    return doubled / 2


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _sort_by_angle(points, count):
    for k in range(1, count):
        x, z, angle = points[k, 0], points[k, 1], points[k, 2]
        slot = k
        while slot > 0 and points[slot - 1, 2] > angle:
            for column in range(3):
                points[slot, column] = points[slot - 1, column]
            slot -= 1
        points[slot, 0], points[slot, 1], points[slot, 2] = x, z, angle


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _extent(corners, axis):
    low, high = corners[0, axis], corners[0, axis]
    for k in range(1, 4):
        low, high = min(low, corners[k, axis]), max(high, corners[k, axis])
    return low, high


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _is_inside(sides):
    """Whether a corner lies on the right of all sides, or on them."""
    return sides[0] <= 0 and sides[1] <= 0 and sides[2] <= 0 and sides[3] <= 0
