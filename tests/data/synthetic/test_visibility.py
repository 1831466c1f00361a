import pytest

from mono3d.data.synthetic.layout import WorldObject
from mono3d.data.synthetic.render import render_cameras
from mono3d.data.synthetic.visibility import visible_shares
from mono3d.data.synthetic.world import World
from tests.data.synthetic.conftest import IMAGE_SIZE
from tests.data.synthetic.stage import staged, thing


def _shares(world: World, *things: WorldObject) -> list[float]:
    scene = staged(world, *things)
    snapshot = scene.snapshot(0.0)
    pictures = render_cameras(scene, snapshot, IMAGE_SIZE)
    shares: list[float] = visible_shares(scene, snapshot, pictures, IMAGE_SIZE).tolist()
    return shares


def test_a_car_on_an_empty_road_is_wholly_visible(world: World) -> None:
    assert _shares(world, thing("car", 18.0)) == pytest.approx([1.0], abs=0.02)


def test_a_car_behind_a_trailer_is_hidden_and_hides_nothing(world: World) -> None:
    hidden, trailer = _shares(world, thing("car", 34.0), thing("trailer", 20.0))
    assert hidden < 0.4
    assert trailer > 0.95


def test_half_a_car_is_hidden_by_another_in_part(world: World) -> None:
    far, near = _shares(world, thing("truck", 30.0), thing("car", 16.0))
    assert 0.2 < far < 0.9
    assert near > 0.95


def test_what_stands_in_no_picture_is_not_visible(world: World) -> None:
    assert _shares(world, thing("traffic_cone", 1.5)) == [0.0]
