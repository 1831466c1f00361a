"""A spinning LiDAR over the same quads and the same ground as the pictures.

Which quad a beam meets first is looked up in four square views rasterised around the sensor; where
it meets it is then computed exactly, and returns that miss the quad by the views' resolution are
dropped, as real sensors drop returns at edges.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from mono3d.data.synthetic.mesh import Mesh
from mono3d.data.synthetic.raster import Pinhole, clear_buffers, empty_buffers, rasterise
from mono3d.data.synthetic.rig import Beams
from mono3d.data.synthetic.terrain import ray_depths
from mono3d.data.synthetic.world import Snapshot, World

_MAX_RANGE_M = 80.0
_RANGE_NOISE_M = 0.008
_DROPPED = 0.04
_VIEWS = 4
_PX_PER_RAY = 8 / 3
"""Width of a view for each ray of a beam in it."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One turn of the sensor.

    Attributes:
        points: x, y, z in the sensor frame in metres, intensity 0 to 255, beam number.
        owners: Number of the object that returned each point, 0 for ground and scenery.
    """

    points: Float[NDArray[np.float32], "n 5"]
    owners: Int[NDArray[np.int16], " n"]


def scan(world: World, snapshot: Snapshot, rng: np.random.Generator) -> Sweep:
    """What the LiDAR measures at a moment.

    Args:
        world: The scene.
        snapshot: One moment of it.
        rng: Draws noise and lost returns.
    """
    turn = snapshot.world_from_ego[:3, :3] @ world.rig.lidar.rotation
    position = snapshot.world_from_ego[:3, :3] @ world.rig.lidar.translation
    position = position + snapshot.world_from_ego[:3, 3]
    mesh, owners = snapshot.mesh, snapshot.owners
    lookup = _lookup(world.rig.beams)
    rays = lookup.rays @ turn.T
    faces = _first_faces(lookup, mesh, turn, position)
    ranges = ray_depths(world.street.terrain, position, rays)
    on_quad = faces >= 0
    to_quads = _quad_ranges(mesh.quads, mesh.normals, faces[on_quad], position, rays[on_quad])
    # What stands on a slope reaches a little into the ground, which is then met first.
    to_ground = ranges[on_quad]
    is_buried = (to_ground > 0) & (to_ground < to_quads)
    ranges[on_quad] = np.where(is_buried, to_ground, to_quads)
    on_quad[on_quad] = ~is_buried
    kept = (ranges > 0) & (ranges < _MAX_RANGE_M) & (rng.random(len(rays)) > _DROPPED)
    noise = np.clip(rng.normal(0.0, _RANGE_NOISE_M, len(rays)), -0.015, 0.015)
    points = lookup.rays * (ranges + noise)[:, None]
    intensity = np.where(on_quad, mesh.colors.mean(axis=1)[faces], 20.0)
    rows = np.column_stack([points, intensity, lookup.beams])[kept].astype(np.float32)
    return Sweep(points=rows, owners=np.where(on_quad, owners[faces], 0)[kept].astype(np.int16))


class _View(NamedTuple):
    """One of the square views around the sensor.

    Attributes:
        rotation: Sensor to camera, (3, 3).
        rays: Which rays fall into the view.
        rows: Where they do.
        columns: Where they do.
    """

    rotation: Float[NDArray[np.float64], "3 3"]
    rays: Int[NDArray[np.intp], " m"]
    rows: Int[NDArray[np.intp], " m"]
    columns: Int[NDArray[np.intp], " m"]


class _Lookup(NamedTuple):
    """The rays of a sensor, and the views in which they are looked up.

    Attributes:
        rays: Unit directions in the sensor frame.
        beams: The beam of each ray.
        views: All around.
        size: Rows and columns of a view.
        focal_px: Focal length of a view.
        center_row: Where the horizon is in it.
    """

    rays: Float[NDArray[np.float64], "n 3"]
    beams: Int[NDArray[np.int64], " n"]
    views: tuple[_View, ...]
    size: tuple[int, int]
    focal_px: float
    center_row: float


@cache
def _lookup(beams: Beams) -> _Lookup:
    elevations = np.radians(beams.elevations_deg)
    azimuths = np.arange(beams.num_azimuths) * (2 * np.pi / beams.num_azimuths)
    azimuth, elevation = (grid.ravel() for grid in np.meshgrid(azimuths, elevations))
    flat = np.cos(elevation)
    rays = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    width = round(_PX_PER_RAY * beams.num_azimuths / _VIEWS)
    focal_px = width / 2
    # A view spans a quarter turn; at its edges beams are steeper in the image by sqrt(2).
    top, bottom = 1.05 * np.sqrt(2) * np.tan(elevations[[-1, 0]])
    center_row = focal_px * top
    views = []
    for turn in np.arange(_VIEWS) * (2 * np.pi / _VIEWS):
        cos, sin = np.cos(turn), np.sin(turn)
        rotation = np.array([[sin, -cos, 0.0], [0.0, 0.0, -1.0], [cos, sin, 0.0]])
        seen = rays @ rotation.T
        mine = np.flatnonzero(seen[:, 2] > np.abs(seen[:, 0]))
        u, v = (focal_px * seen[mine, :2] / seen[mine, 2:]).T
        columns = np.minimum(u + focal_px, width - 1).astype(np.intp)
        rows = (v + center_row).astype(np.intp)
        views.append(_View(rotation=rotation, rays=mine, rows=rows, columns=columns))
    return _Lookup(
        rays=rays,
        beams=np.repeat(np.arange(len(elevations)), beams.num_azimuths),
        views=tuple(views),
        size=(int(np.ceil(focal_px * (top - bottom))), width),
        focal_px=focal_px,
        center_row=center_row,
    )


def _first_faces(
    lookup: _Lookup, mesh: Mesh, turn: NDArray[np.float64], position: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Quad that each ray meets first, to the resolution of the views; -1 for none."""
    faces = np.full(len(lookup.rays), -1, dtype=np.int32)
    nobody = np.zeros(len(mesh.glow), dtype=np.int16)
    buffers = empty_buffers(*lookup.size, 1)
    for view in lookup.views:
        camera = Pinhole(
            rotation=np.ascontiguousarray(view.rotation @ turn.T),
            position=position,
            fx=lookup.focal_px,
            fy=lookup.focal_px,
            cx=lookup.focal_px,
            cy=lookup.center_row,
        )
        clear_buffers(buffers)
        rasterise(mesh.quads, nobody, camera, buffers)
        faces[view.rays] = buffers.faces[view.rows, view.columns]
    return faces


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _quad_ranges(quads, normals, faces, position, rays):
    """Distance to each ray's quad; -1 where the ray passes the quad by.

    Args:
        quads: World corners in order around each quad, (f, 4, 3).
        normals: Their normals, (f, 3).
        faces: Quad of each ray, (n,).
        position: Where the rays start, (3,).
        rays: Unit directions in the world, (n, 3).
    """
    ranges, hit = np.empty(len(faces)), np.empty(3)
    for i in range(len(faces)):
        quad, normal, ray = quads[faces[i]], normals[faces[i]], rays[i]
        toward, away = 0.0, 0.0
        for k in range(3):
            toward += normal[k] * ray[k]
            middle = 0.25 * (quad[0, k] + quad[1, k] + quad[2, k] + quad[3, k])
            away += normal[k] * (middle - position[k])
        ranges[i] = away / toward if abs(toward) > 1e-6 else -1.0
        for k in range(3):
            hit[k] = position[k] + ranges[i] * ray[k]
        # Within a convex quad a point lies on the same side of all edges.
        lefts, rights = 0, 0
        for a in range(4):
            side = _side(quad[a], quad[(a + 1) & 3], hit, normal)
            lefts += side > 0.0
            rights += side < 0.0
        if lefts > 0 and rights > 0:
            ranges[i] = -1.0
    return ranges


@numba.njit(cache=True, error_model="numpy", forceinline=True)
@no_type_check
def _side(start, end, point, normal):
    """On which side of an edge a point lies, seen along the normal: > 0 to the left."""
    ax, ay, az = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    bx, by, bz = point[0] - start[0], point[1] - start[1], point[2] - start[2]
    return (
        normal[0] * (ay * bz - az * by)
        + normal[1] * (az * bx - ax * bz)
        + normal[2] * (ax * by - ay * bx)
    )
