"""Rasteriser: quads into a depth-tested buffer, nearest wins. Compiled by numba.

World frame: x along the road, y left, z up, metres. Camera frame: x right, y down, z forward.
The inverse depth of a plane is linear in the image, so every sample has its exact depth.
"""

from typing import NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

NEAR_M = 0.2


class Pinhole(NamedTuple):
    """A camera in the world.

    Attributes:
        rotation: World to camera, (3, 3).
        position: Optical centre in the world, (3,).
        fx: Focal length in samples, across.
        fy: Focal length in samples, down.
        cx: Principal point; samples are counted from the outer edge of the first one.
        cy: Principal point.
    """

    rotation: Float[NDArray[np.float64], "3 3"]
    position: Float[NDArray[np.float64], "3"]
    fx: float
    fy: float
    cx: float
    cy: float


class Buffers(NamedTuple):
    """What the rasteriser writes.

    Attributes:
        inverse_depth: 1/z of each sample, 0 where nothing was drawn.
        faces: Index of the nearest quad of each sample, -1 where nothing was drawn.
        stamps: Object that covered the sample last, nearest or not.
        areas: Samples that each object would cover if it stood alone, by object id.
    """

    inverse_depth: Float[NDArray[np.float32], "h w"]
    faces: Int[NDArray[np.int32], "h w"]
    stamps: Int[NDArray[np.int16], "h w"]
    areas: Int[NDArray[np.int64], " ids"]


def empty_buffers(height: int, width: int, num_ids: int) -> Buffers:
    """Buffers of a picture in which nothing was drawn yet."""
    return Buffers(
        inverse_depth=np.zeros((height, width), dtype=np.float32),
        faces=np.full((height, width), -1, dtype=np.int32),
        stamps=np.zeros((height, width), dtype=np.int16),
        areas=np.zeros(num_ids, dtype=np.int64),
    )


def clear_buffers(buffers: Buffers) -> None:
    """Forget what was drawn; cheaper than fresh memory."""
    buffers.inverse_depth.fill(0.0)
    buffers.faces.fill(-1)
    buffers.stamps.fill(0)
    buffers.areas.fill(0)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def rasterise(quads, owners, camera, buffers):
    """Draw convex quads.

    Args:
        quads: World corners in order around each quad, (f, 4, 3).
        owners: Object id of each quad, 0 for scenery; quads of one object follow each other.
        camera: The Pinhole.
        buffers: Fresh Buffers; written.
    """
    corners, clipped = np.empty((4, 3)), np.empty((8, 3))
    polygon, plane = np.empty((8, 2)), np.empty(3)
    for f in range(quads.shape[0]):
        if not _to_camera(quads[f], camera, corners):
            continue
        if not _inverse_depth_plane(corners, camera, plane):
            continue
        count = _clipped_to_near(corners, clipped)
        for i in range(count):
            polygon[i, 0] = camera.fx * clipped[i, 0] / clipped[i, 2] + camera.cx
            polygon[i, 1] = camera.fy * clipped[i, 1] / clipped[i, 2] + camera.cy
        _fill(polygon, count, plane, f, owners[f], buffers)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def identify(buffers, owners, object_ids, counts):
    """Which object is nearest at each sample, and how many samples show each.

    Args:
        buffers: Filled Buffers.
        owners: Object id of each quad.
        object_ids: int16, as large as the buffers; written, 0 where nothing was drawn.
        counts: Zeros, by object id; written.
    """
    height, width = object_ids.shape
    for row in range(height):
        face, owner, start = -1, 0, 0
        for column in range(width):
            here = buffers.faces[row, column]
            if here != face:  # most samples show what the one before them shows
                counts[owner] += column - start
                face, start = here, column
                owner = owners[face] if face >= 0 else 0
            object_ids[row, column] = owner
        counts[owner] += width - start


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _to_camera(quad, camera, corners):
    """World to camera; False if all corners lie behind the near plane."""
    farthest = -1.0
    for i in range(4):
        for axis in range(3):
            corners[i, axis] = 0.0
            for k in range(3):
                step = quad[i, k] - camera.position[k]
                corners[i, axis] += camera.rotation[axis, k] * step
        farthest = max(farthest, corners[i, 2])
    return farthest > NEAR_M


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _inverse_depth_plane(corners, camera, plane):
    """1/z of the quad's plane as plane . (u, v, 1); False where it is seen edge-on."""
    ax, bx = corners[2, 0] - corners[0, 0], corners[3, 0] - corners[1, 0]
    ay, by = corners[2, 1] - corners[0, 1], corners[3, 1] - corners[1, 1]
    az, bz = corners[2, 2] - corners[0, 2], corners[3, 2] - corners[1, 2]
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    offset = 0.0
    for i in range(4):
        offset += 0.25 * (nx * corners[i, 0] + ny * corners[i, 1] + nz * corners[i, 2])
    if abs(offset) < 1e-9:
        return False
    plane[0], plane[1] = nx / (camera.fx * offset), ny / (camera.fy * offset)
    plane[2] = nz / offset - plane[0] * camera.cx - plane[1] * camera.cy
    return True


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _clipped_to_near(corners, clipped):
    """Sutherland-Hodgman against z = NEAR_M; returns how many corners are left in `clipped`."""
    count = 0
    for i in range(4):
        j = (i + 1) & 3
        here, there = corners[i, 2], corners[j, 2]
        if here >= NEAR_M:
            for k in range(3):
                clipped[count, k] = corners[i, k]
            count += 1
        if (here >= NEAR_M) != (there >= NEAR_M):
            along = (NEAR_M - here) / (there - here)
            for k in range(3):
                clipped[count, k] = corners[i, k] + along * (corners[j, k] - corners[i, k])
            count += 1
    return count


@numba.njit(cache=True, fastmath=True, error_model="numpy")
@no_type_check
def _fill(polygon, count, plane, face, owner, buffers):
    """Write the samples whose centres lie in a convex polygon and are nearer than before."""
    height, width = buffers.inverse_depth.shape
    top, bottom, leftmost, rightmost = 1e9, -1e9, 1e9, -1e9
    for i in range(count):
        top, bottom = min(top, polygon[i, 1]), max(bottom, polygon[i, 1])
        leftmost, rightmost = min(leftmost, polygon[i, 0]), max(rightmost, polygon[i, 0])
    if rightmost < 0.0 or leftmost > width:
        return
    first = int(max(0.0, np.ceil(top - 0.5)))
    last = int(min(height - 1.0, np.ceil(bottom - 0.5) - 1.0))
    # Single precision from the start of each row on: loops over a row then take eight at a time.
    step, number = np.float32(plane[0]), np.int32(face)
    for row in range(first, last + 1):
        left, right = _row_span(polygon, count, row + 0.5)
        start = int(max(0.0, np.ceil(left - 0.5)))
        stop = int(min(float(width), np.ceil(right - 0.5)))
        if start >= stop:
            continue
        if owner > 0:
            stamps, covered = buffers.stamps[row, start:stop], 0
            for k in range(stop - start):
                covered += stamps[k] != owner
                stamps[k] = owner
            buffers.areas[owner] += covered
        begin = np.float32(plane[0] * (start + 0.5) + plane[1] * (row + 0.5) + plane[2])
        nearest, faces = buffers.inverse_depth[row, start:stop], buffers.faces[row, start:stop]
        for k in range(stop - start):
            near = begin + step * np.float32(np.int32(k))
            is_nearer = near > nearest[k]
            nearest[k] = near if is_nearer else nearest[k]
            faces[k] = number if is_nearer else faces[k]


@numba.njit(cache=True, fastmath=True, error_model="numpy")
@no_type_check
def _row_span(polygon, count, y):
    """Where a horizontal line enters and leaves a convex polygon; left > right if it misses."""
    left, right = 1e9, -1e9
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        if (polygon[i, 1] <= y) != (polygon[j, 1] <= y):
            along = (y - polygon[i, 1]) / (polygon[j, 1] - polygon[i, 1])
            u = polygon[i, 0] + (polygon[j, 0] - polygon[i, 0]) * along
            left, right = min(left, u), max(right, u)
    return left, right
