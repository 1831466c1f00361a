import numpy as np
import pytest

from mono3d.data.synthetic.catalogue import CLASSES
from mono3d.data.synthetic.sites import Place, draw_place, draw_road_works
from mono3d.data.synthetic.street import Street, build_street
from mono3d.data.synthetic.terrain import PAVEMENT_M


def _street(seed: int = 0) -> Street:
    return build_street(np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("place", "motion", "attribute"),
    [
        (Place(x=0.0, side=0.0, heading=0.0, speed=5.0), "vehicle", "vehicle.moving"),
        (Place(x=0.0, side=0.0, heading=0.0), "vehicle", "vehicle.stopped"),
        (Place(x=0.0, side=0.0, heading=0.0, is_parked=True), "vehicle", "vehicle.parked"),
        (Place(x=0.0, side=0.0, heading=0.0, speed=3.0), "cycle", "cycle.with_rider"),
        (Place(x=0.0, side=0.0, heading=0.0, is_parked=True), "cycle", "cycle.without_rider"),
        (Place(x=0.0, side=0.0, heading=0.0, speed=1.0), "pedestrian", "pedestrian.moving"),
        (Place(x=0.0, side=0.0, heading=0.0), "pedestrian", "pedestrian.standing"),
        (Place(x=0.0, side=0.0, heading=0.0), "none", ""),
    ],
)
def test_attributes_say_what_a_thing_does(place: Place, motion: str, attribute: str) -> None:
    assert place.attribute(motion) == attribute  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [kind.name for kind in CLASSES])
def test_places_lie_within_the_street_and_its_sides(name: str) -> None:
    rng = np.random.default_rng(1)
    for seed in range(5):
        street = _street(seed)
        for _ in range(20):
            place = draw_place(street, name, rng)  # type: ignore[arg-type]
            assert abs(place.x) < 60
            assert abs(place.side) < street.terrain.half_road + PAVEMENT_M + 30
            assert 0 <= place.speed < 12
            assert not (place.is_parked and place.speed)


def test_traffic_keeps_to_the_right() -> None:
    rng = np.random.default_rng(2)
    street = _street()
    moving = [p for p in (draw_place(street, "bus", rng) for _ in range(200)) if p.speed]
    along = [p for p in moving if abs(np.sin(p.heading)) < 0.5]
    assert len(along) > 30
    assert all((np.cos(p.heading) > 0) == (p.side < 0) for p in along)


def test_road_works_are_a_row_of_boards_and_cones_that_lead_to_it() -> None:
    barriers, cones = draw_road_works(_street(), 4, 3, np.random.default_rng(0))
    assert (len(barriers), len(cones)) == (4, 3)
    assert np.diff([place.x for place in barriers]) == pytest.approx(2.9)
    # A barrier's long side is across its heading, so its heading is square to the row.
    assert all(abs(np.cos(place.heading)) < 0.3 for place in barriers)
    assert max(place.x for place in cones) < min(place.x for place in barriers)
