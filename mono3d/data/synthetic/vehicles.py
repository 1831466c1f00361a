"""Cars, trucks and buses; fronts (white lamps) and rears (red lamps) differ."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mono3d.data.synthetic.mesh import Face, Mesh, Rgb, block, decal, disc, frustum, recolored

Size = tuple[float, float, float]

GLASS: Rgb = (38, 48, 62)
TYRE: Rgb = (22, 22, 24)
RIM: Rgb = (150, 152, 156)
DARK: Rgb = (40, 41, 45)
HEADLIGHT: Rgb = (255, 250, 228)
TAIL_LIGHT: Rgb = (228, 18, 24)
AMBER: Rgb = (255, 176, 40)
PLATE: Rgb = (225, 225, 205)
CAR_PAINTS: tuple[Rgb, ...] = (
    (232, 232, 230), (182, 186, 190), (112, 116, 122), (34, 36, 42), (38, 74, 148), (168, 26, 32),
    (30, 84, 60), (196, 178, 142), (226, 170, 30), (96, 150, 190), (120, 62, 40),
)  # fmt: skip
CARGO_PAINTS: tuple[Rgb, ...] = (
    (238, 238, 236), (214, 220, 226), (200, 60, 40), (40, 90, 160), (70, 130, 80), (226, 190, 80),
)  # fmt: skip
BUS_PAINTS: tuple[Rgb, ...] = ((206, 40, 44), (34, 110, 170), (50, 140, 84), (232, 200, 60))


def pick(rng: np.random.Generator, palette: Sequence[Rgb]) -> Rgb:
    """One colour of a palette, a little off."""
    base = palette[int(rng.integers(len(palette)))]
    red, green, blue = np.clip(np.asarray(base) + rng.normal(0, 6, 3), 8, 250)
    return (float(red), float(green), float(blue))


def darker(color: Rgb, factor: float) -> Rgb:
    """The colour times a factor, as far as there are brighter ones."""
    red, green, blue = (min(255.0, value * factor) for value in color)
    return (red, green, blue)


def wheel(x: float, y: float, radius: float) -> list[Mesh]:
    """Tyre and rim on the side of the vehicle that the sign of y names."""
    side = 1 if y > 0 else -1
    return [
        disc((x, y, radius), radius, side, TYRE),
        disc((x, y + 0.012 * side, radius), radius * 0.55, side, RIM),
    ]


def wheels(xs: Sequence[float], half_width: float, radius: float) -> list[Mesh]:
    """A pair of wheels at each x."""
    return [part for x in xs for y in (half_width, -half_width) for part in wheel(x, y, radius)]


def front_lights(body: Mesh, v: tuple[float, float]) -> list[Mesh]:
    """Two white lamps, and a dark grille between them."""
    return [
        decal(body, Face.FRONT, (0.04, 0.25), v, HEADLIGHT, glow=1.0),
        decal(body, Face.FRONT, (0.75, 0.96), v, HEADLIGHT, glow=1.0),
        decal(body, Face.FRONT, (0.31, 0.69), v, DARK),
    ]


def rear_lights(body: Mesh, v: tuple[float, float]) -> list[Mesh]:
    """Two red lamps, and a number plate between them."""
    plate = (v[0], 0.5 * (v[0] + v[1]))
    return [
        decal(body, Face.REAR, (0.02, 0.22), v, TAIL_LIGHT, glow=0.8),
        decal(body, Face.REAR, (0.78, 0.98), v, TAIL_LIGHT, glow=0.8),
        decal(body, Face.REAR, (0.4, 0.6), plate, PLATE),
    ]


def side_windows(solid: Mesh, edges: Sequence[float], v: tuple[float, float]) -> list[Mesh]:
    """Panes between neighbouring edges (fractions of the side) on both sides."""
    return [
        decal(solid, face, (left + 0.015, right - 0.015), v, GLASS)
        for face in (Face.LEFT, Face.RIGHT)
        for left, right in pairwise(edges)
    ]


def car(size: Size, rng: np.random.Generator) -> list[Mesh]:
    """A saloon, an estate or a van."""
    length, width, height = size
    paint = pick(rng, CAR_PAINTS)
    half, waist = 0.475 * width, height * rng.uniform(0.52, 0.58)
    rear_top, front_top, front_bottom = _CABINS[int(rng.integers(len(_CABINS)))]
    body = frustum(
        (-length / 2, length / 2, -half, half),
        (-0.485 * length, 0.465 * length, -0.95 * half, 0.95 * half),
        (0.24 * height, waist),
        paint,
    )
    cabin = recolored(
        frustum(
            (-0.47 * length, front_bottom * length, -0.93 * half, 0.93 * half),
            (rear_top * length, front_top * length, -0.78 * half, 0.78 * half),
            (waist, height),
            paint,
        ),
        {Face.FRONT: GLASS, Face.REAR: GLASS},
    )
    sill = block((-0.48 * length, 0.48 * length, -half, half), (0.13 * height, 0.24 * height), DARK)
    return [
        sill,
        body,
        cabin,
        decal(body, Face.TOP, (0.72, 0.985), (0.1, 0.9), darker(paint, 1.08)),
        *front_lights(body, (0.45, 0.85)),
        *rear_lights(body, (0.5, 0.95)),
        *side_windows(cabin, (0.1, 0.36, 0.62, 0.9), (0.14, 0.86)),
        *wheels((-0.31 * length, 0.31 * length), 0.49 * width, 0.195 * height),
    ]


# Roof rear edge, roof front edge, foot of the windscreen, as fractions of the length.
_CABINS = ((-0.28, 0.06, 0.2), (-0.43, 0.06, 0.22), (-0.46, 0.2, 0.34))


def truck(size: Size, rng: np.random.Generator) -> list[Mesh]:
    """A cab with a cargo box; a pickup where the box is low."""
    return _pickup(size, rng) if size[2] < 2.4 else _box_truck(size, rng)


def _box_truck(size: Size, rng: np.random.Generator) -> list[Mesh]:
    length, width, height = size
    half, split = width / 2, length / 2 - min(2.0, 0.3 * length)
    paint = pick(rng, CAR_PAINTS)
    cab = frustum(
        (split + 0.05, length / 2, -0.95 * half, 0.95 * half),
        (split + 0.05, length / 2 - 0.25, -0.92 * half, 0.92 * half),
        (0.14 * height, 0.82 * height),
        paint,
    )
    cargo = block(
        (-length / 2, split, -half, half), (0.3 * height, height), pick(rng, CARGO_PAINTS)
    )
    chassis = block(
        (-length / 2 + 0.05, split, -0.8 * half, 0.8 * half), (0.16 * height, 0.3 * height), DARK
    )
    return [
        chassis,
        cab,
        cargo,
        decal(cab, Face.FRONT, (0.06, 0.94), (0.52, 0.92), GLASS),
        *side_windows(cab, (0.25, 0.9), (0.55, 0.92)),
        *front_lights(cab, (0.1, 0.27)),
        *rear_doors(cargo),
        *rear_lights(chassis, (0.3, 0.95)),
        *wheels((-0.33 * length, split + 0.5), 0.985 * half, 0.48),
    ]


def rear_doors(cargo: Mesh) -> list[Mesh]:
    """Two door leaves with a seam, and the red and white marking below."""
    seam = decal(cargo, Face.REAR, (0.485, 0.515), (0.05, 0.97), DARK)
    stripes = [
        decal(
            cargo,
            Face.REAR,
            (i / 8, (i + 1) / 8),
            (0.0, 0.05),
            TAIL_LIGHT if i % 2 else (240, 240, 240),
        )
        for i in range(8)
    ]
    return [seam, *stripes]


def _pickup(size: Size, rng: np.random.Generator) -> list[Mesh]:
    length, width, height = size
    half, waist, paint = 0.475 * width, 0.55 * height, pick(rng, CAR_PAINTS)
    body = block((-length / 2, length / 2, -half, half), (0.2 * height, waist), paint)
    cabin = recolored(
        frustum(
            (-0.1 * length, 0.24 * length, -0.95 * half, 0.95 * half),
            (-0.08 * length, 0.14 * length, -0.82 * half, 0.82 * half),
            (waist, height),
            paint,
        ),
        {Face.FRONT: GLASS, Face.REAR: GLASS},
    )
    return [
        body,
        cabin,
        decal(body, Face.TOP, (0.02, 0.38), (0.06, 0.94), DARK),
        *front_lights(body, (0.4, 0.85)),
        *rear_lights(body, (0.35, 0.95)),
        *side_windows(cabin, (0.08, 0.5, 0.92), (0.15, 0.88)),
        *wheels((-0.33 * length, 0.33 * length), 0.49 * width, 0.2 * height),
    ]


def bus(size: Size, rng: np.random.Generator) -> list[Mesh]:
    """A city bus: a band of windows, a destination board in front, doors on the right."""
    length, width, height = size
    half, paint = 0.485 * width, pick(rng, BUS_PAINTS)
    body = frustum(
        (-length / 2, length / 2, -half, half),
        (-length / 2, length / 2 - 0.12, -0.97 * half, 0.97 * half),
        (0.1 * height, height),
        paint,
    )
    doors = [
        decal(body, Face.RIGHT, (u, u + 0.09), (0.04, 0.86), darker(GLASS, 1.5))
        for u in (0.5, 0.86)
    ]
    return [
        body,
        decal(body, Face.FRONT, (0.05, 0.95), (0.3, 0.84), GLASS),
        decal(body, Face.FRONT, (0.2, 0.8), (0.88, 0.97), AMBER, glow=1.0),
        decal(body, Face.REAR, (0.15, 0.85), (0.58, 0.86), GLASS),
        *front_lights(body, (0.07, 0.18)),
        *rear_lights(body, (0.1, 0.26)),
        *side_windows(body, np.linspace(0.03, 0.97, 9).tolist(), (0.42, 0.84)),
        *doors,
        *wheels((-0.28 * length, 0.32 * length), 0.49 * width, 0.5),
    ]
