from dataclasses import replace

import numpy as np
import pytest

from mono3d.data.synthetic.catalogue import CLASS_BY_NAME, ClassName
from mono3d.data.synthetic.layout import WorldObject
from mono3d.data.synthetic.mesh import block, merge
from mono3d.data.synthetic.render import render_cameras
from mono3d.data.synthetic.shapes import object_mesh
from mono3d.data.synthetic.sites import Place
from mono3d.data.synthetic.visibility import visible_shares
from mono3d.data.synthetic.world import World
from tests.data.synthetic.conftest import IMAGE_SIZE


def _thing(name: ClassName, x: float) -> WorldObject:
    """Something straight ahead of the ego car, seen from behind."""
    kind = CLASS_BY_NAME[name]
    return WorldObject(
        kind=kind,
        size_lwh=kind.size_lwh_m,
        attribute="",
        mesh=object_mesh(name, kind.size_lwh_m, np.random.default_rng(0)),
        place=Place(x=x, side=-3.0, heading=0.0),
    )


def _shares(world: World, *things: WorldObject) -> list[float]:
    nowhere = merge([block((-1.0, 1.0, -1.0, 1.0), (-90.0, -80.0), (0, 0, 0))])
    ego = Place(x=0.0, side=-3.0, heading=0.0)
    staged = replace(world, objects=things, scenery=nowhere, ego=ego)
    snapshot = staged.snapshot(0.0)
    pictures = render_cameras(staged, snapshot, IMAGE_SIZE)
    shares: list[float] = visible_shares(staged, snapshot, pictures, IMAGE_SIZE).tolist()
    return shares


def test_a_car_on_an_empty_road_is_wholly_visible(world: World) -> None:
    assert _shares(world, _thing("car", 18.0)) == pytest.approx([1.0], abs=0.02)


def test_a_car_behind_a_trailer_is_hidden_and_hides_nothing(world: World) -> None:
    hidden, trailer = _shares(world, _thing("car", 34.0), _thing("trailer", 20.0))
    assert hidden < 0.4
    assert trailer > 0.95


def test_half_a_car_is_hidden_by_another_in_part(world: World) -> None:
    far, near = _shares(world, _thing("truck", 30.0), _thing("car", 16.0))
    assert 0.2 < far < 0.9
    assert near > 0.95


def test_what_stands_in_no_picture_is_not_visible(world: World) -> None:
    below = replace(_thing("traffic_cone", 3.0), place=Place(x=1.5, side=-3.0, heading=0.0))
    assert _shares(world, below) == [0.0]
