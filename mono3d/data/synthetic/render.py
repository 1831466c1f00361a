"""Pictures of a world: what each camera sees, and how much of each object."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

from mono3d.data.synthetic.mesh import Mesh
from mono3d.data.synthetic.raster import (
    Buffers,
    Pinhole,
    clear_buffers,
    empty_buffers,
    identify,
    rasterise,
)
from mono3d.data.synthetic.rig import Sensor
from mono3d.data.synthetic.shading import SAMPLES, Backdrop, Light, ShadowMap, shade
from mono3d.data.synthetic.terrain import value_noise
from mono3d.data.synthetic.world import Snapshot, World

_SHADOW_CELL_M = 0.2
_SHADOW_CELLS = 500
_CONTACT_LEVEL = 165
_MAX_SHADOW_M = 1.6
"""Longest cast shadow, in heights of the object."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One camera's view of a moment.

    Attributes:
        image: BGR, as OpenCV writes it.
        object_ids: Number of the object at each sample, 0 for scenery, sky and ground; there are
            SAMPLES samples in a pixel each way.
        seen: Samples that show each object, by its number.
        alone: Samples in the picture that each object would cover if nothing stood before it.
    """

    image: UInt8[NDArray[np.uint8], "h w 3"]
    object_ids: Int[NDArray[np.int16], "hs ws"]
    seen: Int[NDArray[np.int64], " ids"]
    alone: Int[NDArray[np.int64], " ids"]


def render_cameras(
    world: World, snapshot: Snapshot, image_size: tuple[int, int]
) -> dict[str, Picture]:
    """What every camera of the rig sees at a moment, by channel.

    Args:
        world: The scene.
        snapshot: One moment of it.
        image_size: Width and height of the pictures; those that the rig was built for.
    """
    width, height = image_size
    backdrop = Backdrop(
        terrain=world.street.terrain,
        light=snapshot.light,
        shadow=shadow_map(world, snapshot),
        noise=value_noise(),
    )
    colors = lit_colors(snapshot.mesh, snapshot.light)
    buffers = empty_buffers(height * SAMPLES, width * SAMPLES, len(world.objects) + 1)
    pictures = {}
    for sensor in world.rig.cameras:
        clear_buffers(buffers)
        pictures[sensor.channel] = _render(
            snapshot, pinhole(sensor, snapshot), backdrop, colors, buffers
        )
    return pictures


def pinhole(sensor: Sensor, snapshot: Snapshot) -> Pinhole:
    """A camera of the rig in the world, in pixels counted from the outer edge of the first one."""
    assert sensor.intrinsic is not None, sensor.channel
    turn, place = snapshot.world_from_ego[:3, :3], snapshot.world_from_ego[:3, 3]
    intrinsic = sensor.intrinsic
    return Pinhole(
        rotation=np.ascontiguousarray((turn @ sensor.rotation).T),
        position=turn @ sensor.translation + place,
        fx=float(intrinsic[0, 0]),
        fy=float(intrinsic[1, 1]),
        cx=float(intrinsic[0, 2]) + 0.5,
        cy=float(intrinsic[1, 2]) + 0.5,
    )


def lit_colors(mesh: Mesh, light: Light) -> Float[NDArray[np.float64], "f 3"]:
    """RGB of each quad in this light; what glows keeps its colour, what faces up is brighter."""
    facing_sun = np.maximum(mesh.normals @ np.array(light.sun), 0.0)[:, None]
    facing_sky = 0.85 + 0.15 * mesh.normals[:, 2:]
    light_on = np.array(light.ambient) * facing_sky + np.array(light.direct) * facing_sun
    lit = mesh.colors * light_on
    colors: NDArray[np.float64] = np.clip(
        np.maximum(lit, mesh.colors * mesh.glow[:, None]), 0.0, 255.0
    )
    return colors


def shadow_map(world: World, snapshot: Snapshot) -> ShadowMap:
    """Darkness around what is looked at: contact shadows, and cast ones where the sun is strong."""
    half_m = 0.5 * _SHADOW_CELL_M * _SHADOW_CELLS
    ahead = world.rig.view_ahead_m * snapshot.world_from_ego[:2, 0]
    corner = snapshot.world_from_ego[:2, 3] + ahead - half_m
    cells = np.zeros((_SHADOW_CELLS, _SHADOW_CELLS), dtype=np.uint8)
    light = snapshot.light
    sun_share = sum(light.direct) / (sum(light.direct) + sum(light.ambient))
    reach = -np.array(light.sun[:2]) / max(light.sun[2], 0.1)
    reach *= min(1.0, _MAX_SHADOW_M / max(float(np.linalg.norm(reach)), 1e-6))
    footprints = [
        _footprint(center, yaw, thing.size_lwh)
        for thing, center, yaw in zip(world.objects, snapshot.centers, snapshot.yaws, strict=True)
    ]
    # Contact shadows are the darker ones, so they are drawn last.
    for footprint, thing in zip(footprints, world.objects, strict=True):
        cast = np.concatenate([footprint, footprint + reach * thing.size_lwh[2]])
        hull = cv2.convexHull(_to_cells(cast, corner))
        cv2.fillConvexPoly(cells, hull, min(255 * sun_share, _CONTACT_LEVEL))
    for footprint in footprints:
        cv2.fillConvexPoly(cells, _to_cells(footprint, corner), _CONTACT_LEVEL)
    soft = cv2.blur(cells, (3, 3)).astype(np.float32) / 255
    return ShadowMap(
        cells=soft, cell_m=_SHADOW_CELL_M, corner_x=float(corner[0]), corner_y=float(corner[1])
    )


def _footprint(
    center: NDArray[np.float64], yaw: float, size_lwh: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Corners of a box on the ground, (4, 2)."""
    along = 0.5 * size_lwh[0] * np.array([np.cos(yaw), np.sin(yaw)])
    across = 0.5 * size_lwh[1] * np.array([-np.sin(yaw), np.cos(yaw)])
    corners: NDArray[np.float64] = center[:2] + np.stack(
        [along + across, along - across, -along - across, across - along]
    )
    return corners


def _to_cells(points: NDArray[np.float64], corner: NDArray[np.float64]) -> NDArray[np.int32]:
    cells: NDArray[np.int32] = np.round((points - corner) / _SHADOW_CELL_M - 0.5).astype(np.int32)
    return cells


def _render(
    snapshot: Snapshot,
    camera: Pinhole,
    backdrop: Backdrop,
    colors: NDArray[np.float64],
    buffers: Buffers,
) -> Picture:
    fine = camera._replace(
        fx=camera.fx * SAMPLES,
        fy=camera.fy * SAMPLES,
        cx=camera.cx * SAMPLES,
        cy=camera.cy * SAMPLES,
    )
    rasterise(snapshot.mesh.quads, snapshot.owners, fine, buffers)
    rows, columns = buffers.faces.shape
    image = np.empty((rows // SAMPLES, columns // SAMPLES, 3), dtype=np.uint8)
    shade(camera, backdrop, buffers, colors, image)
    object_ids = np.empty(buffers.faces.shape, dtype=np.int16)
    seen = np.zeros_like(buffers.areas)
    identify(buffers, snapshot.owners, object_ids, seen)
    return Picture(image=image, object_ids=object_ids, seen=seen, alone=buffers.areas.copy())
