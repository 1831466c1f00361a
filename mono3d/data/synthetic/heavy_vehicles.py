"""Trailers and construction vehicles."""

import numpy as np

from mono3d.data.synthetic.mesh import Face, Mesh, block, decal, frustum
from mono3d.data.synthetic.vehicles import (
    CAR_PAINTS,
    CARGO_PAINTS,
    DARK,
    GLASS,
    RIM,
    TYRE,
    Size,
    darker,
    pick,
    rear_doors,
    rear_lights,
    side_windows,
    wheels,
)


def trailer(size: Size, rng: np.random.Generator) -> list[Mesh]:
    """A semi-trailer without its tractor: legs in front, three axles behind."""
    length, width, height = size
    half = width / 2
    hull = block(
        (-length / 2, length / 2 - 0.35, -half, half),
        (0.3 * height, height),
        pick(rng, CARGO_PAINTS),
    )
    cooler = block(
        (length / 2 - 0.35, length / 2, -0.6 * half, 0.6 * half),
        (0.62 * height, 0.95 * height),
        (210, 212, 215),
    )
    chassis = block(
        (-length / 2 + 0.02, 0.4 * length, -0.55 * half, 0.55 * half),
        (0.2 * height, 0.3 * height),
        DARK,
    )
    legs = [
        block((0.26 * length, 0.275 * length, y - 0.1, y + 0.1), (0.0, 0.3 * height), DARK)
        for y in (-0.6 * half, 0.6 * half)
    ]
    logo = pick(rng, CAR_PAINTS)
    return [
        hull,
        cooler,
        chassis,
        *legs,
        *[decal(hull, face, (0.25, 0.75), (0.3, 0.75), logo) for face in (Face.LEFT, Face.RIGHT)],
        *rear_doors(hull),
        *rear_lights(chassis, (0.25, 0.95)),
        *wheels((-0.42 * length, -0.33 * length, -0.24 * length), 0.985 * half, 0.5),
    ]


def construction_vehicle(size: Size, rng: np.random.Generator) -> list[Mesh]:
    """An excavator: tracks, a yellow house with a cab, an arm with a bucket in front."""
    length, width, height = size
    half, paint = width / 2, pick(rng, ((240, 184, 20), (236, 140, 24), (226, 200, 60)))
    deck, roof = 0.3 * height, 0.62 * height
    house = block((-length / 2, 0.02 * length, -0.95 * half, 0.95 * half), (deck, roof), paint)
    cab = block((-0.2 * length, 0.04 * length, 0.1 * half, 0.92 * half), (deck, height), paint)
    tracks = [
        block((-0.44 * length, 0.12 * length, min(y), max(y)), (0.0, deck), TYRE)
        for y in ((-half, -0.5 * half), (0.5 * half, half))
    ]
    arm = (-0.35 * half, -0.05 * half)
    boom = frustum(
        (0.0, 0.1 * length, *arm),
        (0.26 * length, 0.34 * length, *arm),
        (0.45 * height, height),
        paint,
    )
    stick = frustum(
        (0.38 * length, 0.43 * length, *arm),
        (0.27 * length, 0.34 * length, *arm),
        (0.2 * height, height),
        darker(paint, 0.85),
    )
    bucket = frustum(
        (0.34 * length, length / 2, -0.5 * half, 0.2 * half),
        (0.38 * length, 0.44 * length, -0.5 * half, 0.2 * half),
        (0.0, 0.24 * height),
        DARK,
    )
    return [
        *tracks,
        house,
        cab,
        boom,
        stick,
        bucket,
        decal(cab, Face.FRONT, (0.08, 0.92), (0.35, 0.95), GLASS),
        *side_windows(cab, (0.1, 0.9), (0.5, 0.93)),
        decal(house, Face.REAR, (0.0, 1.0), (0.05, 0.3), DARK),
        *rear_lights(house, (0.45, 0.65)),
        *[
            decal(track, face, (0.06, 0.94), (0.25, 0.75), RIM)
            for track, face in zip(tracks, (Face.RIGHT, Face.LEFT), strict=True)
        ],
    ]
