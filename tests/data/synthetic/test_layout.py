from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import Polygon

from mono3d.data.synthetic.catalogue import RIDER_HEIGHT_M
from mono3d.data.synthetic.layout import WorldObject, fill_street, poses_at
from mono3d.data.synthetic.sites import Place
from mono3d.data.synthetic.street import Street, build_street

TIMES_S = np.array([-1.0, 0.0, 1.0])
EGO = Place(x=0.0, side=-2.0, heading=0.0, speed=6.0)


@cache
def _filled(seed: int) -> tuple[Street, tuple[WorldObject, ...]]:
    rng = np.random.default_rng(seed)
    street = build_street(rng)
    return street, fill_street(street, EGO, TIMES_S, ("bus", "bicycle"), True, rng)


def _footprint(street: Street, thing: WorldObject, time_s: float) -> Polygon:
    (center,), (yaw,) = poses_at(street, thing.place, thing.size_lwh[2], np.array([time_s]))
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)])
    corners: NDArray[np.float64] = signs * np.array(thing.size_lwh[:2]) / 2 @ turn.T + center[:2]
    return Polygon(corners)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_ever_overlaps(seed: int) -> None:
    street, things = _filled(seed)
    for time_s in TIMES_S.tolist():
        shapes = [_footprint(street, thing, time_s) for thing in things]
        for i, one in enumerate(shapes):
            assert all(one.intersection(other).area < 0.01 for other in shapes[:i])


def test_the_ego_car_has_room() -> None:
    street, things = _filled(1)
    for time_s, ego in zip(TIMES_S.tolist(), poses_at(street, EGO, 0.0, TIMES_S)[0], strict=True):
        for thing in things:
            near = _footprint(street, thing, time_s).exterior.coords
            assert min(np.hypot(x - ego[0], y - ego[1]) for x, y in near) > 1.0


def test_scenes_hold_dozens_of_things_and_what_was_promised() -> None:
    numbers, names = [], []
    for seed in range(4):
        _, things = _filled(seed)
        numbers.append(len(things))
        names += [{thing.kind.name for thing in things}]
    assert 24 < np.mean(numbers) < 60
    assert sum({"bus", "bicycle"} <= found for found in names) == 4


def test_sizes_are_within_two_deviations_of_the_class() -> None:
    for seed in range(4):
        for thing in _filled(seed)[1]:
            mean = np.array(thing.kind.size_lwh_m)
            if thing.attribute == "cycle.with_rider":
                mean[2] = RIDER_HEIGHT_M[thing.kind.name]
            assert (
                np.abs(thing.size_lwh - mean) <= 2 * np.array(thing.kind.spread_lwh_m) + 1e-3
            ).all()


def test_boxes_stand_on_the_ground_and_follow_the_road() -> None:
    street, _ = _filled(0)
    place = Place(x=5.0, side=-3.0, heading=np.pi, speed=4.0)
    (center,), (yaw,) = poses_at(street, place, 2.0, np.array([1.5]))
    assert center[2] == pytest.approx(street.terrain.height(center[0], center[1]) + 1.0)
    # Six metres backwards along a road that hardly bends.
    assert center[0] == pytest.approx(-1.0, abs=0.1)
    assert center[1] - 0.5 * street.terrain.bend * center[0] ** 2 == pytest.approx(-3.0)
    assert yaw == pytest.approx(street.terrain.heading(center[0]) + np.pi)
