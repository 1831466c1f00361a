"""Buildings, trees and lamp posts beside the street: what hides objects and has no label."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mono3d.data.synthetic.mesh import Face, Mesh, Rgb, block, decals, frustum, merge, placed
from mono3d.data.synthetic.street import Street
from mono3d.data.synthetic.terrain import PAVEMENT_M
from mono3d.data.synthetic.vehicles import DARK, GLASS, darker, pick

_FACADES: tuple[Rgb, ...] = (
    (186, 160, 132), (206, 198, 184), (150, 84, 66), (172, 176, 180), (120, 116, 112),
    (214, 190, 150), (98, 112, 128),
)  # fmt: skip
_LEAVES: tuple[Rgb, ...] = ((58, 96, 44), (82, 116, 52), (44, 80, 50))
_TRUNK: Rgb = (84, 66, 50)
_STREET_END_M = (-80.0, 100.0)
_BURIED_M = 0.03


def build_scenery(street: Street, rng: np.random.Generator) -> Mesh:
    """Buildings, trees and lamp posts along the whole street, in the world frame."""
    return _cut_at_ground(merge([*_buildings(street, rng), *_roadside(street, rng)]), street)


def _cut_at_ground(mesh: Mesh, street: Street) -> Mesh:
    """Lift what is buried to the surface: the ground is painted behind all quads, hides none."""
    x, y, z = np.moveaxis(mesh.quads, -1, 0)
    ground = street.terrain.height(x, y) - _BURIED_M
    return replace(mesh, quads=np.stack([x, y, np.maximum(z, ground)], axis=-1))


def _buildings(street: Street, rng: np.random.Generator) -> Iterator[Mesh]:
    terrain = street.terrain
    for side in (1, -1):
        x = _STREET_END_M[0] + rng.uniform(0, 10)
        while x < _STREET_END_M[1]:
            width = rng.uniform(9, 24)
            middle = x + width / 2
            x += width + rng.uniform(1, 9)
            if abs(middle - terrain.cross_x) < terrain.half_cross + PAVEMENT_M + width / 2 + 1:
                continue
            distance = terrain.half_road + PAVEMENT_M + street.yard(side) + rng.uniform(0, 4)
            yield _building(street, (middle, side * distance), width, rng)


def _building(
    street: Street, front: tuple[float, float], width: float, rng: np.random.Generator
) -> Mesh:
    """A house whose front stands at (x, metres left of the centre line)."""
    depth, floors = rng.uniform(8, 14), int(rng.integers(1, 6))
    facade = pick(rng, _FACADES)
    hull = block((-width / 2, width / 2, 0.0, depth), (-1.5, 3.2 * floors + 0.8), facade)
    pane = darker(GLASS, rng.uniform(0.8, 2.0))
    columns = max(2, int(width / 3.5))
    i, j = (grid.reshape(-1, 1) for grid in np.mgrid[:columns, :floors])
    windows = decals(
        hull,
        Face.RIGHT,
        (i + np.array([0.25, 0.75])) / columns,
        (j + np.array([0.42, 0.85])) / (floors + 0.3),
        pane,
    )
    ledge = block((-width / 2, width / 2, -0.15, 0.0), (2.9, 3.15), darker(facade, 0.8))
    x, y = street.terrain.on_road(front[0], front[1])
    turn = 0.0 if front[1] > 0 else np.pi
    heading = street.terrain.heading(front[0])
    return placed(
        merge([hull, ledge, windows]), np.array([x, y, street.terrain.height(x, y)]), heading + turn
    )


def _roadside(street: Street, rng: np.random.Generator) -> Iterator[Mesh]:
    """Trees or lamp posts at the kerb."""
    for side in (1, -1):
        x = _STREET_END_M[0] + rng.uniform(0, 12)
        build = _tree if rng.random() < 0.6 else _lamp_post
        while x < _STREET_END_M[1]:
            y_side = side * (street.terrain.half_road + 0.9)
            if abs(x - street.terrain.cross_x) > street.terrain.half_cross + 2:
                place = street.terrain.on_road(x, y_side)
                turn = 0.0 if side < 0 else np.pi
                yield placed(build(rng), np.array([*place, street.terrain.height(*place)]), turn)
            x += rng.uniform(9, 22)


def _tree(rng: np.random.Generator) -> Mesh:
    tall, wide, leaves = rng.uniform(5, 8), rng.uniform(1.2, 2.0), pick(rng, _LEAVES)
    low, middle = 0.4 * tall, 0.65 * tall
    small, large = 0.55 * wide, wide
    return merge(
        [
            block((-0.16, 0.16, -0.16, 0.16), (-0.3, low), _TRUNK),
            frustum(
                (-small, small, -small, small),
                (-large, large, -large, large),
                (low, middle),
                leaves,
            ),
            frustum(
                (-large, large, -large, large),
                (-0.3 * small, 0.3 * small, -0.3 * small, 0.3 * small),
                (middle, tall),
                darker(leaves, 1.15),
            ),
        ]
    )


def _lamp_post(rng: np.random.Generator) -> Mesh:
    tall = rng.uniform(5.5, 7.5)
    head = block((-0.15, 0.15, 1.2, 1.9), (tall - 0.12, tall + 0.08), (236, 228, 196))
    return merge(
        [
            block((-0.08, 0.08, -0.08, 0.08), (-0.3, tall), DARK),
            block((-0.05, 0.05, 0.0, 1.3), (tall - 0.05, tall + 0.05), DARK),
            head,
        ]
    )
