"""Coloured quads, and the few solids that every shape of the synthetic world is made of.

Object frame: x forward, y left, z up, metres. While a shape is built z starts at the ground; the
finished mesh is centred. A solid is a frustum between two axis-aligned rectangles, so boxes,
cabins, cones and slanted booms are the same thing. Details (windows, lights, stripes) are decals:
quads that float just outside a face of a solid.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Rgb = tuple[int, int, int] | tuple[float, float, float]
"""0 to 255."""
Rect = tuple[float, float, float, float]
"""Extents (x0, x1, y0, y1) of a horizontal rectangle, metres."""

_DECAL_LIFT_M = 0.012
_INSET_M = 0.02


class Face(IntEnum):
    """Faces of a solid in the order of its quads; there is no bottom, nobody sees it."""

    FRONT = 0
    REAR = 1
    LEFT = 2
    RIGHT = 3
    TOP = 4


# Corners of each face: index into (bottom, top) x (x0y0, x1y0, x1y1, x0y1), as u0v0 u1v0 u1v1 u0v1,
# v upwards (TOP: u along x, v along y).
_FACE_CORNERS = np.array(
    [[1, 2, 6, 5], [0, 3, 7, 4], [3, 2, 6, 7], [0, 1, 5, 4], [4, 5, 6, 7]], dtype=np.intp
)
# The hull of an octagon, cut into quads.
_OCTAGON_QUADS = np.array([[0, 1, 2, 3], [0, 3, 4, 7], [7, 4, 5, 6]], dtype=np.intp)
_OCTAGON_ANGLES = np.pi / 8 + np.arange(8) * np.pi / 4


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Flat-coloured quads.

    Attributes:
        quads: Corners in order around each face, metres.
        normals: Unit normals that point out of the solid.
        colors: RGB, 0 to 255, before light.
        glow: 1 for what shines by itself (lamps), 0 for what needs light.
    """

    quads: Float[NDArray[np.float64], "f 4 3"]
    normals: Float[NDArray[np.float64], "f 3"]
    colors: Float[NDArray[np.float64], "f 3"]
    glow: Float[NDArray[np.float64], " f"]


def merge(meshes: Iterable[Mesh]) -> Mesh:
    """All quads of several meshes as one mesh; at least one mesh."""
    parts = list(meshes)
    return Mesh(
        quads=np.concatenate([part.quads for part in parts]),
        normals=np.concatenate([part.normals for part in parts]),
        colors=np.concatenate([part.colors for part in parts]),
        glow=np.concatenate([part.glow for part in parts]),
    )


def cross(
    a: Float[NDArray[np.float64], "*n 3"], b: Float[NDArray[np.float64], "*n 3"]
) -> Float[NDArray[np.float64], "*n 3"]:
    """Cross product; a fraction of numpy's time for few vectors."""
    (ax, ay, az), (bx, by, bz) = (v.transpose(-1, *range(v.ndim - 1)) for v in (a, b))
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def _flat_mesh(
    quads: NDArray[np.float64], inside: NDArray[np.float64], color: Rgb, glow: float = 0.0
) -> Mesh:
    """Quads of one colour whose normals point away from the point `inside`."""
    normals = cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    normals /= np.maximum(np.sqrt((normals**2).sum(axis=1, keepdims=True)), 1e-9)
    outward = (normals * (quads.sum(axis=1) / 4 - inside)).sum(axis=1)
    normals[outward < 0] *= -1
    return Mesh(
        quads=quads,
        normals=normals,
        colors=np.full((len(quads), 3), color, dtype=np.float64),
        glow=np.full(len(quads), glow),
    )


def frustum(bottom: Rect, top: Rect, z: tuple[float, float], color: Rgb) -> Mesh:
    """A solid between a rectangle at height z[0] and one at z[1]; five quads in Face order."""
    corners = np.array(
        [
            (rect[i], rect[j], height)
            for rect, height in ((bottom, z[0]), (top, z[1]))
            for i, j in ((0, 2), (1, 2), (1, 3), (0, 3))
        ]
    )
    return _flat_mesh(corners[_FACE_CORNERS], corners.mean(axis=0), color)


def block(rect: Rect, z: tuple[float, float], color: Rgb) -> Mesh:
    """An axis-aligned box; five quads in Face order."""
    return frustum(rect, rect, z, color)


def recolored(solid: Mesh, faces: dict[Face, Rgb]) -> Mesh:
    """The same solid with other colours on some faces."""
    colors = solid.colors.copy()
    for face, color in faces.items():
        colors[face] = color
    return Mesh(quads=solid.quads, normals=solid.normals, colors=colors, glow=solid.glow)


def decals(
    solid: Mesh,
    face: Face,
    u: Float[NDArray[np.float64], "k 2"],
    v: Float[NDArray[np.float64], "k 2"],
    color: Rgb,
    *,
    glow: float = 0.0,
) -> Mesh:
    """Flat patches on one face of a solid; u and v are fractions of the face, v upwards."""
    p00, p10, p11, p01 = solid.quads[face]
    us, vs = u[:, [0, 1, 1, 0], None], v[:, [0, 0, 1, 1], None]
    patches = (1 - vs) * ((1 - us) * p00 + us * p10) + vs * ((1 - us) * p01 + us * p11)
    count, normal = len(u), solid.normals[face]
    return Mesh(
        quads=patches + _DECAL_LIFT_M * normal,
        normals=np.full((count, 3), normal),
        colors=np.full((count, 3), color, dtype=np.float64),
        glow=np.full(count, glow),
    )


def decal(
    solid: Mesh,
    face: Face,
    u: tuple[float, float],
    v: tuple[float, float],
    color: Rgb,
    *,
    glow: float = 0.0,
) -> Mesh:
    """One flat patch; see decals."""
    return decals(solid, face, np.array([u]), np.array([v]), color, glow=glow)


def disc(center: tuple[float, float, float], radius: float, side: int, color: Rgb) -> Mesh:
    """An upright octagon that faces left (side = 1) or right (side = -1): a wheel's flank."""
    around = np.stack([np.cos(_OCTAGON_ANGLES), np.zeros(8), np.sin(_OCTAGON_ANGLES)], axis=1) * (
        radius / np.cos(np.pi / 8)
    )
    corners = np.asarray(center) + np.clip(around, -radius, radius)
    inside = np.asarray(center) - np.array([0.0, side, 0.0])
    return _flat_mesh(corners[_OCTAGON_QUADS], inside, color)


def fitted(mesh: Mesh, size_lwh: tuple[float, float, float]) -> Mesh:
    """Centre a shape built on the ground, and shrink it to stay inside its box.

    The gap of 2 cm on each side keeps LiDAR returns with range noise inside the labelled box.
    """
    size = np.asarray(size_lwh)
    centered = mesh.quads - np.array([0.0, 0.0, size[2] / 2])
    limit = np.maximum(np.abs(centered).max(axis=(0, 1)), 1e-9)
    scale = (size / 2 - _INSET_M) / np.maximum(limit, size / 2)
    return Mesh(quads=centered * scale, normals=mesh.normals, colors=mesh.colors, glow=mesh.glow)


def placed(mesh: Mesh, center: Float[NDArray[np.float64], "3"], yaw: float) -> Mesh:
    """The mesh turned by yaw about z and moved so that its origin lies at `center`."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return Mesh(
        quads=mesh.quads @ turn + center,
        normals=mesh.normals @ turn,
        colors=mesh.colors,
        glow=mesh.glow,
    )
