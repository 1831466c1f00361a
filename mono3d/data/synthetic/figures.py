"""People, cycles with and without riders, traffic cones and barriers."""

import numpy as np

from mono3d.data.synthetic.mesh import Face, Mesh, Rgb, block, decal, frustum
from mono3d.data.synthetic.vehicles import (
    CAR_PAINTS,
    DARK,
    HEADLIGHT,
    TAIL_LIGHT,
    Size,
    darker,
    pick,
    wheel,
)

SKINS: tuple[Rgb, ...] = ((236, 196, 166), (214, 164, 126), (164, 112, 78), (104, 70, 50))
HAIRS: tuple[Rgb, ...] = ((30, 24, 20), (84, 56, 34), (168, 130, 70), (120, 118, 116))
SHIRTS: tuple[Rgb, ...] = (
    (196, 40, 46), (44, 84, 168), (236, 236, 232), (40, 42, 50), (60, 130, 74), (230, 180, 50),
    (130, 70, 140), (240, 120, 40),
)  # fmt: skip
TROUSERS: tuple[Rgb, ...] = ((38, 44, 66), (54, 52, 52), (110, 94, 72), (70, 84, 112))
ORANGE: Rgb = (246, 96, 22)
WHITE: Rgb = (244, 244, 244)
RED: Rgb = (214, 30, 34)


def _head(x: float, z: tuple[float, float], half: float, rng: np.random.Generator) -> list[Mesh]:
    """A head with its face in front and hair on the other sides."""
    skin, hair = pick(rng, SKINS), pick(rng, HAIRS)
    middle = z[0] + 0.62 * (z[1] - z[0])
    rect = (x - half, x + half, -0.85 * half, 0.85 * half)
    top = (x - 0.7 * half, x + 0.6 * half, -0.6 * half, 0.6 * half)
    skull = block(rect, (z[0], middle), hair)
    return [
        skull,
        decal(skull, Face.FRONT, (0.0, 1.0), (0.0, 1.0), skin),
        *[decal(skull, face, (0.45, 1.0), (0.0, 1.0), skin) for face in (Face.LEFT, Face.RIGHT)],
        frustum(rect, top, (middle, z[1]), hair),
    ]


def pedestrian(size: Size, rng: np.random.Generator) -> list[Mesh]:
    """A standing or walking person; some carry a backpack."""
    length, width, height = size
    shirt, trousers = pick(rng, SHIRTS), pick(rng, TROUSERS)
    stride = rng.uniform(0.5, 1.0) * (length / 2 - 0.14)
    hip, shoulder = 0.47 * height, 0.83 * height
    leg, arm = 0.13 * width, 0.1 * width
    parts = _head(0.02, (0.86 * height, height), 0.065 * height, rng)
    for side in (1, -1):
        foot, y = side * stride, side * 0.17 * width
        parts.append(
            frustum(
                (foot - 0.12, foot + 0.14, y - leg, y + leg),
                (-0.1, 0.1, y - 1.15 * leg, y + 1.15 * leg),
                (0.0, hip),
                trousers,
            )
        )
        hand, edge = -0.7 * foot, side * (width / 2 - arm)
        parts.append(
            frustum(
                (hand - 0.06, hand + 0.06, edge - arm, edge + arm),
                (-0.07, 0.07, 0.85 * edge - arm, 0.85 * edge + arm),
                (0.5 * height, shoulder),
                darker(shirt, 0.85),
            )
        )
    torso_top = (-0.11, 0.12, -0.34 * width, 0.34 * width)
    parts.append(
        frustum((-0.12, 0.13, -0.26 * width, 0.26 * width), torso_top, (hip, shoulder), shirt)
    )
    parts.append(block((-0.05, 0.06, -0.06, 0.06), (shoulder, 0.87 * height), pick(rng, SKINS)))
    if rng.random() < 0.35:
        pack = (-0.3, -0.11, -0.24 * width, 0.24 * width)
        parts.append(block(pack, (0.55 * height, 0.8 * height), pick(rng, SHIRTS)))
    return parts


def _rider(size: Size, hip: float, rng: np.random.Generator) -> list[Mesh]:
    """Somebody who sits at height `hip` and leans forward to the handlebar."""
    length, width, height = size
    shirt, trousers = pick(rng, SHIRTS), pick(rng, TROUSERS)
    seat, chest, shoulder = -0.12 * length, 0.06 * length, 0.85 * height
    half = 0.32 * width
    parts = _head(chest + 0.06, (0.86 * height, height), 0.11, rng)
    parts.append(
        frustum(
            (seat - 0.12, seat + 0.12, -0.8 * half, 0.8 * half),
            (chest - 0.1, chest + 0.12, -half, half),
            (hip, shoulder),
            shirt,
        )
    )
    for side in (1, -1):
        thigh, arm = side * 0.22 * width, side * 0.42 * width
        foot = seat + 0.16 + side * 0.08
        parts.append(
            frustum(
                (foot - 0.1, foot + 0.12, thigh - 0.07, thigh + 0.07),
                (seat - 0.05, seat + 0.2, thigh - 0.09, thigh + 0.09),
                (0.16 * height, hip + 0.06),
                trousers,
            )
        )
        parts.append(
            frustum(
                (0.24 * length, 0.3 * length, arm - 0.045, arm + 0.045),
                (chest - 0.03, chest + 0.1, arm - 0.05, arm + 0.05),
                (0.6 * height, shoulder),
                darker(shirt, 0.85),
            )
        )
    return parts


def bicycle(size: Size, rng: np.random.Generator, *, has_rider: bool) -> list[Mesh]:
    """Two thin wheels, a diamond frame, a saddle and a handlebar."""
    length, width, height = size
    frame_height = height if not has_rider else 0.62 * height
    radius, tube = min(0.2 * length, 0.36), 0.03
    front, rear = length / 2 - radius, radius - length / 2
    paint, bar = pick(rng, CAR_PAINTS[4:]), (-tube, tube)
    lower, upper = 0.32 * frame_height, 0.72 * frame_height
    saddle = -0.14 * length
    parts = [
        *wheel(front, 0.03, radius),
        *wheel(front, -0.03, radius),
        *wheel(rear, 0.03, radius),
        *wheel(rear, -0.03, radius),
        block((saddle, 0.24 * length, *bar), (upper - 0.09, upper - 0.02), paint),
        block((rear, 0.02 * length, *bar), (lower - 0.04, lower + 0.04), paint),
        _tube(saddle, saddle, (lower, 0.84 * frame_height), paint),
        _tube(0.04 * length, 0.24 * length, (lower, upper), paint),
        _tube(front, 0.24 * length, (radius, 0.94 * frame_height), DARK),
        block(
            (0.22 * length, 0.27 * length, -0.46 * width, 0.46 * width),
            (0.92 * frame_height, 0.97 * frame_height),
            DARK,
        ),
        block((saddle - 0.14, saddle + 0.1, -0.07, 0.07), (upper + 0.04, upper + 0.11), DARK),
    ]
    return [*parts, *_rider(size, 0.55 * height, rng)] if has_rider else parts


def _tube(x_bottom: float, x_top: float, z: tuple[float, float], color: Rgb) -> Mesh:
    """A slanted bar in the plane of the cycle."""
    return frustum(
        (x_bottom - 0.035, x_bottom + 0.035, -0.03, 0.03),
        (x_top - 0.035, x_top + 0.035, -0.03, 0.03),
        z,
        color,
    )


def motorcycle(size: Size, rng: np.random.Generator, *, has_rider: bool) -> list[Mesh]:
    """Fat wheels, a tank and a fairing with a head light, a seat with a tail light."""
    length, width, height = size
    top = height if not has_rider else 0.72 * height
    radius, paint = 0.155 * length, pick(rng, CAR_PAINTS)
    front, rear, half = length / 2 - radius, radius - length / 2, 0.2 * width
    engine = block((-0.2 * length, 0.18 * length, -half, half), (0.2 * top, 0.5 * top), DARK)
    tank = frustum(
        (-0.04 * length, 0.22 * length, -half, half),
        (0.0, 0.18 * length, -0.6 * half, 0.6 * half),
        (0.5 * top, 0.74 * top),
        paint,
    )
    tail = frustum(
        (-0.38 * length, 0.0, -0.8 * half, 0.8 * half),
        (-0.44 * length, 0.0, -0.7 * half, 0.7 * half),
        (0.48 * top, 0.62 * top),
        paint,
    )
    fairing = frustum(
        (0.2 * length, 0.38 * length, -1.2 * half, 1.2 * half),
        (0.2 * length, 0.28 * length, -0.8 * half, 0.8 * half),
        (0.42 * top, 0.97 * top),
        paint,
    )
    parts = [
        *[part for x in (front, rear) for y in (0.07, -0.07) for part in wheel(x, y, radius)],
        engine,
        tank,
        tail,
        fairing,
        block(
            (0.2 * length, 0.25 * length, -0.48 * width, 0.48 * width),
            (0.8 * top, 0.86 * top),
            DARK,
        ),
        decal(fairing, Face.FRONT, (0.15, 0.85), (0.35, 0.7), HEADLIGHT, glow=1.0),
        decal(tail, Face.REAR, (0.05, 0.95), (0.2, 0.95), TAIL_LIGHT, glow=0.8),
    ]
    return [*parts, *_rider(size, 0.46 * height, rng)] if has_rider else parts


def traffic_cone(size: Size, rng: np.random.Generator) -> list[Mesh]:
    """An orange cone with two white sleeves on a dark foot."""
    length, width, height = size
    foot = block((-length / 2, length / 2, -width / 2, width / 2), (0.0, 0.06 * height), DARK)
    orange = pick(rng, (ORANGE,))
    levels = (0.06, 0.3, 0.46, 0.62, 0.78, 1.0)
    colors = (orange, WHITE, orange, WHITE, orange)
    sleeves = [
        frustum(_ring(size, low), _ring(size, high), (low * height, high * height), color)
        for low, high, color in zip(levels, levels[1:], colors, strict=False)
    ]
    return [foot, *sleeves]


def _ring(size: Size, level: float) -> tuple[float, float, float, float]:
    """Cross-section of the cone at a fraction of its height."""
    half = 0.42 * size[0] * (1.05 - level)
    return (-half, half, -half, half)


def barrier(size: Size, rng: np.random.Generator) -> list[Mesh]:
    """A board with red and white panels on two feet; it is wider (y) than long (x)."""
    length, width, height = size
    board_rect = (-0.12 * length, 0.12 * length, -width / 2, width / 2)
    board = block(board_rect, (0.38 * height, height), WHITE)
    stripe = pick(rng, (RED, ORANGE))
    panels = [
        decal(board, face, ((i + 0.1) / 6, (i + 0.9) / 6), (0.06, 0.94), stripe if i % 2 else WHITE)
        for face in (Face.FRONT, Face.REAR)
        for i in range(6)
    ]
    feet = [
        part
        for y in (-0.36 * width, 0.36 * width)
        for part in (
            block((-length / 2, length / 2, y - 0.09, y + 0.09), (0.0, 0.1 * height), DARK),
            block((-0.06, 0.06, y - 0.06, y + 0.06), (0.1 * height, 0.4 * height), DARK),
        )
    ]
    return [board, *panels, *feet]
