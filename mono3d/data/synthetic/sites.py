"""Where each class is found in a street, and what it does there.

Places are in road coordinates: x along the road, side in metres left of its centre line.
"""

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from mono3d.data.synthetic.catalogue import ClassName, Motion
from mono3d.data.synthetic.street import Street
from mono3d.data.synthetic.terrain import PAVEMENT_M

T = TypeVar("T")

_X_RANGE_M = (-42.0, 52.0)
_MIN_YARD_M = 8.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something is at time 0 and how it goes on.

    Attributes:
        x: World x, metres.
        side: Metres left of the road's centre line.
        heading: Relative to the road, radians to the left.
        speed: Along the heading, metres per second.
        is_parked: Left there, without driver or rider.
    """

    x: float
    side: float
    heading: float
    speed: float = 0.0
    is_parked: bool = False

    def attribute(self, motion: Motion) -> str:
        """The nuScenes attribute of something of this family; empty for static things."""
        match motion:
            case "vehicle" if self.speed == 0:
                return "vehicle.parked" if self.is_parked else "vehicle.stopped"
            case "vehicle":
                return "vehicle.moving"
            case "cycle":
                return "cycle.without_rider" if self.is_parked else "cycle.with_rider"
            case "pedestrian":
                return "pedestrian.moving" if self.speed > 0 else "pedestrian.standing"
            case "none":
                return ""


def _along(rng: np.random.Generator) -> float:
    return float(rng.uniform(*_X_RANGE_M))


def _pick(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of them; a fraction of the time of `choice`."""
    return options[rng.integers(len(options))]


def _either_side(rng: np.random.Generator) -> int:
    return _pick((-1, 1), rng)


def _in_lane(street: Street, rng: np.random.Generator) -> Place:
    """Driving or waiting, on the right of the road."""
    terrain, side = street.terrain, _either_side(rng)
    lane = rng.integers(round(terrain.half_driven / terrain.lane)) + 0.5
    return Place(
        x=_along(rng),
        side=side * lane * terrain.lane + rng.normal(0, 0.15),
        heading=(0.0 if side < 0 else np.pi) + rng.normal(0, 0.03),
        speed=float(rng.uniform(2, 11)) if rng.random() < 0.65 else 0.0,
    )


def _at_kerb(street: Street, rng: np.random.Generator) -> Place:
    """Parked along the road, mostly in the direction of traffic."""
    side = _either_side(rng)
    wrong_way = rng.random() < 0.2
    return Place(
        x=_along(rng),
        side=side * (street.terrain.half_road - 1.2) + rng.normal(0, 0.08),
        heading=(0.0 if (side < 0) != wrong_way else np.pi) + rng.normal(0, 0.05),
        is_parked=True,
    )


def _in_yard(street: Street, rng: np.random.Generator) -> Place:
    """Parked beside the road at any angle, mostly square to it; at the kerb if all is built up."""
    sides = [side for side in (1, -1) if street.yard(side) >= _MIN_YARD_M]
    if not sides:
        return _at_kerb(street, rng)
    side = _pick(sides, rng)
    reach = street.yard(side) - 3.0
    heading = _pick((0.0, 0.5, 0.5, 1.0, 1.5, 1.5), rng) * np.pi + rng.normal(0, 0.15)
    if rng.random() < 0.3:
        heading = rng.uniform(-np.pi, np.pi)
    return Place(
        x=_along(rng),
        side=side * (street.terrain.half_road + PAVEMENT_M + rng.uniform(1.0, reach)),
        heading=float(heading),
        is_parked=True,
    )


def _on_cross_street(street: Street, rng: np.random.Generator) -> Place:
    """On the street that crosses, driving or waiting; in a lane if there is none."""
    terrain = street.terrain
    if abs(terrain.cross_x) > _X_RANGE_M[1]:
        return _in_lane(street, rng)
    way = _either_side(rng)
    return Place(
        x=terrain.cross_x + way * terrain.half_cross / 2,
        side=_either_side(rng) * rng.uniform(0, terrain.half_road + 26),
        heading=way * np.pi / 2 + rng.normal(0, 0.04),
        speed=float(rng.uniform(2, 7)) if rng.random() < 0.5 else 0.0,
    )


def _on_pavement(street: Street, rng: np.random.Generator) -> Place:
    """Walking along the road, or standing and facing anywhere."""
    side = _either_side(rng) * (street.terrain.half_road + rng.uniform(0.7, PAVEMENT_M - 0.4))
    if rng.random() < 0.35:
        return Place(x=_along(rng), side=side, heading=float(rng.uniform(-np.pi, np.pi)))
    return Place(
        x=_along(rng),
        side=side,
        heading=float(_pick((0.0, np.pi), rng) + rng.normal(0, 0.2)),
        speed=float(rng.uniform(0.7, 1.8)),
    )


def _across(street: Street, rng: np.random.Generator) -> Place:
    """Walking across the road, on the zebra stripes where there are some."""
    terrain = street.terrain
    stripes = terrain.cross_x + _either_side(rng) * (terrain.half_cross + 2.2)
    has_stripes = abs(terrain.cross_x) < _X_RANGE_M[1]
    return Place(
        x=stripes + rng.normal(0, 0.8) if has_stripes else _along(rng),
        side=rng.uniform(-1, 1) * terrain.half_road,
        heading=_either_side(rng) * np.pi / 2 + rng.normal(0, 0.15),
        speed=float(rng.uniform(0.8, 1.8)),
    )


def _leant_on_pavement(street: Street, rng: np.random.Generator) -> Place:
    """A cycle that somebody left."""
    return replace(_on_pavement(street, rng), speed=0.0, is_parked=True)


def _ridden(street: Street, rng: np.random.Generator) -> Place:
    """A cyclist at the right edge of the driven road."""
    terrain, side = street.terrain, _either_side(rng)
    return Place(
        x=_along(rng),
        side=side * (terrain.half_driven - rng.uniform(0.2, 0.9)),
        heading=(0.0 if side < 0 else np.pi) + rng.normal(0, 0.06),
        speed=float(rng.uniform(2, 6.5)),
    )


Site = Callable[[Street, np.random.Generator], Place]
_SITES: dict[ClassName, tuple[tuple[Site, float], ...]] = {
    "car": ((_in_lane, 0.4), (_at_kerb, 0.28), (_in_yard, 0.22), (_on_cross_street, 0.1)),
    "truck": ((_in_lane, 0.45), (_at_kerb, 0.3), (_in_yard, 0.15), (_on_cross_street, 0.1)),
    "bus": ((_in_lane, 0.55), (_at_kerb, 0.25), (_on_cross_street, 0.2)),
    "trailer": ((_in_lane, 0.35), (_at_kerb, 0.35), (_in_yard, 0.3)),
    "construction_vehicle": ((_at_kerb, 0.5), (_in_yard, 0.5)),
    "pedestrian": ((_on_pavement, 0.75), (_across, 0.25)),
    "motorcycle": ((_in_lane, 0.5), (_at_kerb, 0.25), (_leant_on_pavement, 0.25)),
    "bicycle": ((_ridden, 0.55), (_leant_on_pavement, 0.45)),
    "traffic_cone": ((_at_kerb, 0.6), (_in_lane, 0.4)),
    "barrier": ((_at_kerb, 1.0),),
}


_UP_TO = {
    name: (np.cumsum([share for _, share in sites]) / sum(share for _, share in sites)).tolist()
    for name, sites in _SITES.items()
}
"""Shares of the sites up to each one."""


def draw_place(street: Street, name: ClassName, rng: np.random.Generator) -> Place:
    """Somewhere that a thing of this class is found."""
    site = _SITES[name][bisect(_UP_TO[name], rng.random())][0]
    return site(street, rng)


def draw_road_works(
    street: Street, num_barriers: int, num_cones: int, rng: np.random.Generator
) -> tuple[list[Place], list[Place]]:
    """A row of barriers that closes a piece of a lane, and cones that lead around it.

    Returns:
        Places of the barriers and of the cones. A barrier is wide, so it stands square to the row.
    """
    side = _either_side(rng)
    edge = side * (street.terrain.half_driven - rng.uniform(-1.0, 1.5))
    start = rng.uniform(-24.0, 16.0)
    barriers = [
        Place(
            x=start + 2.9 * i,
            side=edge + rng.normal(0, 0.08),
            heading=-side * np.pi / 2 + rng.normal(0, 0.08),
        )
        for i in range(num_barriers)
    ]
    cones = [
        Place(
            x=start - 2.0 - rng.uniform(1.6, 2.4) * i,
            side=edge + side * 0.35 * i + rng.normal(0, 0.1),
            heading=float(rng.uniform(-np.pi, np.pi)),
        )
        for i in range(num_cones)
    ]
    return barriers, cones
