"""A spinning LiDAR of 32 beams over the same quads and the same ground as the pictures.

Which quad a beam meets first is looked up in four square views rasterised around the sensor; where
it meets it is then computed exactly, and returns that miss the quad by the views' resolution are
dropped, as real sensors drop returns at edges.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from mono3d.data.synthetic.mesh import Mesh, cross
from mono3d.data.synthetic.raster import Pinhole, empty_buffers, rasterise
from mono3d.data.synthetic.terrain import ray_depths
from mono3d.data.synthetic.world import Snapshot, World

NUM_BEAMS = 32
"""Beams and their elevations are those of the HDL-32E on nuScenes' cars."""
_ELEVATIONS = np.radians(np.linspace(-30.67, 10.67, NUM_BEAMS))
_NUM_AZIMUTHS = 1080
_MAX_RANGE_M = 80.0
_RANGE_NOISE_M = 0.008
_DROPPED = 0.04
_VIEWS = 4
_VIEW_PX = 720
# A view spans a quarter turn; at its edges beams are steeper in the image by sqrt(2).
_TOP, _BOTTOM = 1.05 * np.sqrt(2) * np.tan(_ELEVATIONS[[-1, 0]])


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One turn of the sensor.

    Attributes:
        points: x, y, z in the sensor frame in metres, intensity 0 to 255, beam number: a row of
            nuScenes' .pcd.bin.
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
    rays_sensor, beams = _rays()
    rays = rays_sensor @ turn.T
    faces = _first_faces(mesh, turn, position, rays_sensor)
    ranges = ray_depths(world.street.terrain, position, rays)
    on_quad = faces >= 0
    to_quads = _quad_ranges(mesh, faces[on_quad], position, rays[on_quad])
    # What stands on a slope reaches a little into the ground, which is then met first.
    to_ground = ranges[on_quad]
    is_buried = (to_ground > 0) & (to_ground < to_quads)
    ranges[on_quad] = np.where(is_buried, to_ground, to_quads)
    on_quad[on_quad] = ~is_buried
    kept = (ranges > 0) & (ranges < _MAX_RANGE_M) & (rng.random(len(rays)) > _DROPPED)
    noise = np.clip(rng.normal(0.0, _RANGE_NOISE_M, len(rays)), -0.015, 0.015)
    points = rays_sensor * (ranges + noise)[:, None]
    intensity = np.where(on_quad, mesh.colors[faces].mean(axis=1), 20.0)
    rows = np.column_stack([points, intensity, beams])[kept].astype(np.float32)
    return Sweep(points=rows, owners=np.where(on_quad, owners[faces], 0)[kept].astype(np.int16))


@cache
def _rays() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Unit directions in the sensor frame (n, 3), and the beam of each."""
    azimuths = np.arange(_NUM_AZIMUTHS) * (2 * np.pi / _NUM_AZIMUTHS)
    azimuth, elevation = (grid.ravel() for grid in np.meshgrid(azimuths, _ELEVATIONS))
    flat = np.cos(elevation)
    rays = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    return rays, np.repeat(np.arange(NUM_BEAMS), _NUM_AZIMUTHS)


def _first_faces(
    mesh: Mesh,
    turn: NDArray[np.float64],
    position: NDArray[np.float64],
    rays_sensor: NDArray[np.float64],
) -> NDArray[np.int32]:
    """Quad that each ray meets first, to the resolution of the views; -1 for none."""
    focal = _VIEW_PX / 2
    height = int(np.ceil(focal * (_TOP - _BOTTOM)))
    faces = np.full(len(rays_sensor), -1, dtype=np.int32)
    nobody = np.zeros(len(mesh.glow), dtype=np.int16)
    for view in range(_VIEWS):
        azimuth = view * 2 * np.pi / _VIEWS
        cos, sin = np.cos(azimuth), np.sin(azimuth)
        camera_from_sensor = np.array([[sin, -cos, 0.0], [0.0, 0.0, -1.0], [cos, sin, 0.0]])
        camera = Pinhole(
            rotation=np.ascontiguousarray(camera_from_sensor @ turn.T),
            position=position,
            fx=focal,
            fy=focal,
            cx=focal,
            cy=focal * _TOP,
        )
        buffers = empty_buffers(height, _VIEW_PX, 1)
        rasterise(mesh.quads, nobody, camera, buffers)
        seen = rays_sensor @ camera_from_sensor.T
        mine = np.flatnonzero(seen[:, 2] > np.abs(seen[:, 0]))
        u, v = (focal * seen[mine, :2] / seen[mine, 2:] + (camera.cx, camera.cy)).T
        faces[mine] = buffers.faces[v.astype(np.intp), np.minimum(u, _VIEW_PX - 1).astype(np.intp)]
    return faces


def _quad_ranges(
    mesh: Mesh, faces: NDArray[np.int32], position: NDArray[np.float64], rays: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance to each ray's quad; -1 where the ray passes the quad by."""
    quads, normals = mesh.quads[faces], mesh.normals[faces]
    toward = np.einsum("ni,ni->n", normals, rays)
    toward = np.where(np.abs(toward) < 1e-6, 1e-6, toward)
    ranges = np.einsum("ni,ni->n", normals, quads.mean(axis=1) - position) / toward
    hits = position + ranges[:, None] * rays
    edges = np.roll(quads, -1, axis=1) - quads
    sides = np.einsum(
        "nei,ni->ne", cross(edges, hits[:, None] - quads), normals
    )  # one sign within a convex quad
    inside = (sides >= 0).all(axis=1) | (sides <= 0).all(axis=1)
    return np.where(inside, ranges, -1.0)
