"""Coloured quads, and the few solids that every shape of the synthetic world is made of.

Object frame: x forward, y left, z up, metres. While a shape is built z starts at the ground; the
finished mesh is centred. A solid is a frustum between two axis-aligned rectangles, so boxes,
cabins, cones and slanted booms are the same thing. Details (windows, lights, stripes) are decals:
quads that float just outside a face of a solid.
"""

import math
from collections.abc import Iterable, Sequence
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


def _octagon() -> Float[NDArray[np.float64], "3 4 3"]:
    """The hull of an upright octagon in the square from -1 to 1, cut into three quads."""
    angles = np.pi / 8 + np.arange(8) * np.pi / 4
    corners = np.stack([np.cos(angles), np.zeros(8), np.sin(angles)], axis=1) / np.cos(np.pi / 8)
    hull: NDArray[np.float64] = corners[[[0, 1, 2, 3], [0, 3, 4, 7], [7, 4, 5, 6]]]
    return hull


_OCTAGON = _octagon()


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


def _flat_mesh(
    quads: NDArray[np.float64], normals: NDArray[np.float64], color: Rgb, glow: float = 0.0
) -> Mesh:
    """Quads of one colour."""
    colors = np.empty((len(quads), 3))
    colors[:] = color
    shine = np.zeros(len(quads))
    shine[:] = glow
    return Mesh(quads=quads, normals=normals, colors=colors, glow=shine)


def frustum(bottom: Rect, top: Rect, z: tuple[float, float], color: Rgb) -> Mesh:
    """A solid between a rectangle at height z[0] and one above; five quads in Face order."""
    # Written out number by number: a scene has a thousand solids, and each array operation costs
    # more than all of this arithmetic.
    (x0, x1, y0, y1), (x2, x3, y2, y3), (low, high) = bottom, top, z
    corners = np.array(
        [
            (x0, y0, low), (x1, y0, low), (x1, y1, low), (x0, y1, low),
            (x2, y2, high), (x3, y2, high), (x3, y3, high), (x2, y3, high),
        ]
    )  # fmt: skip
    rise = high - low
    front, rear = math.hypot(rise, x1 - x3), math.hypot(rise, x2 - x0)
    left, right = math.hypot(rise, y1 - y3), math.hypot(rise, y2 - y0)
    normals = np.array(
        [
            (rise / front, 0.0, (x1 - x3) / front),
            (-rise / rear, 0.0, (x2 - x0) / rear),
            (0.0, rise / left, (y1 - y3) / left),
            (0.0, -rise / right, (y2 - y0) / right),
            (0.0, 0.0, 1.0),
        ]
    )
    return _flat_mesh(corners[_FACE_CORNERS], normals, color)


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
    return _patches(solid, face, [*zip(u.tolist(), v.tolist(), strict=True)], color, glow)


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
    return _patches(solid, face, [(u, v)], color, glow)


def _patches(
    solid: Mesh,
    face: Face,
    extents: Sequence[tuple[Sequence[float], Sequence[float]]],
    color: Rgb,
    glow: float,
) -> Mesh:
    """A patch for each (u, v): its corners are mixed from those of the face, bilinearly."""
    shares = np.array(
        [
            [
                ((1 - p) * (1 - q), p * (1 - q), p * q, (1 - p) * q)
                for p, q in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))
            ]
            for (u0, u1), (v0, v1) in extents
        ]
    )
    normal = solid.normals[face]
    normals = np.empty((len(extents), 3))
    normals[:] = normal
    return _flat_mesh(shares @ solid.quads[face] + _DECAL_LIFT_M * normal, normals, color, glow)


def disc(center: tuple[float, float, float], radius: float, side: int, color: Rgb) -> Mesh:
    """An upright octagon that faces left (side = 1) or right (side = -1): a wheel's flank."""
    normals = np.zeros((len(_OCTAGON), 3))
    normals[:, 1] = side
    return _flat_mesh(np.array(center) + radius * _OCTAGON, normals, color)


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
