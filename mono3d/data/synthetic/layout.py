"""The objects of a scene: how many, how large, and that no two of them ever touch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mono3d.data.synthetic.catalogue import (
    CLASS_BY_NAME,
    CLASSES,
    RIDER_HEIGHT_M,
    ClassName,
    ObjectClass,
)
from mono3d.data.synthetic.mesh import Mesh
from mono3d.data.synthetic.shapes import object_mesh
from mono3d.data.synthetic.sites import Place, draw_place, draw_road_works
from mono3d.data.synthetic.street import Street

_DISCS = 5
_GAP_M = 0.3
_TRIES = 10
_NEAR_M = 26.0
_NEAR_TRIES = 60
_MIN_CARS = 3
_EGO_SIZE_LWH = (4.1, 1.75, 1.6)


@dataclass(frozen=True, kw_only=True)
class WorldObject:
    """One labelled thing for the length of a scene.

    Attributes:
        kind: Its class.
        size_lwh: Length, width and height of its box, metres.
        attribute: nuScenes attribute, empty for classes without one.
        mesh: Its shape in the object frame, inside the box.
        place: Where it is at time 0 and how it moves.
    """

    kind: ObjectClass
    size_lwh: tuple[float, float, float]
    attribute: str
    mesh: Mesh
    place: Place


def poses_at(
    street: Street, place: Place, height_m: float, times_s: Float[NDArray[np.float64], " t"]
) -> tuple[Float[NDArray[np.float64], "t 3"], Float[NDArray[np.float64], " t"]]:
    """World centres and yaws, at some times, of a box that stands on the ground.

    Boxes stay upright on slopes and follow the bend of the road, as nuScenes' boxes do.
    """
    terrain = street.terrain
    along = np.cos(place.heading) * np.cos(terrain.heading(place.x))
    side = place.side + place.speed * np.sin(place.heading) * times_s
    x, y = terrain.on_road(place.x + place.speed * along * times_s, side)
    centers = np.stack([x, y, terrain.height(x, y) + height_m / 2], axis=1)
    return centers, terrain.heading(x) + place.heading


class _Crowd:
    """What has been placed so far, each footprint as a row of discs at every moment."""

    def __init__(self, street: Street, times_s: NDArray[np.float64]) -> None:
        self.street = street
        self._times_s = times_s
        self._centers = np.zeros((len(times_s), 0, 2))
        self._radii = np.zeros(0)

    def admit(self, place: Place, size_lwh: tuple[float, float, float]) -> bool:
        """Reserve the room if it is free at all times."""
        long, wide = max(size_lwh[:2]), min(size_lwh[:2])
        turn = 0.0 if size_lwh[0] >= size_lwh[1] else np.pi / 2
        radius = 0.56 * wide
        offsets = np.linspace(-0.5, 0.5, _DISCS) * (long - wide)
        middles, yaws = poses_at(self.street, place, 0.0, self._times_s)
        ahead = np.stack([np.cos(yaws + turn), np.sin(yaws + turn)], axis=1)
        centers = middles[:, None, :2] + ahead[:, None] * offsets[:, None]
        gaps = np.linalg.norm(centers[:, :, None] - self._centers[:, None], axis=-1)
        if (gaps < radius + self._radii + _GAP_M).any():
            return False
        self._centers = np.concatenate([self._centers, centers], axis=1)
        self._radii = np.concatenate([self._radii, np.full(_DISCS, radius)])
        return True


def fill_street(
    street: Street,
    ego: Place,
    times_s: Float[NDArray[np.float64], " t"],
    promised: tuple[ClassName, ...],
    is_training: bool,
    rng: np.random.Generator,
) -> tuple[WorldObject, ...]:
    """Objects that never touch each other nor the ego car.

    Args:
        street: The street.
        ego: The middle of the ego car.
        times_s: Moments at which nothing may overlap, seconds around 0.
        promised: Classes of which one more is put close to the ego car.
        is_training: Training scenes hold more of the rare classes.
        rng: Draws everything.

    Returns:
        What found room, in the order of their numbers.
    """
    crowd = _Crowd(street, times_s)
    crowd.admit(ego, _EGO_SIZE_LWH)
    counts = _draw_counts(is_training, rng)
    barriers, cones = draw_road_works(street, counts["barrier"], counts["traffic_cone"], rng)
    wishes: list[tuple[ClassName, Iterable[Place]]] = [
        (name, _near_places(street, name, rng)) for name in promised
    ]
    wishes += [("barrier", [place]) for place in barriers]
    wishes += [("traffic_cone", [place]) for place in cones]
    wishes += [
        (kind.name, _places(street, kind.name, rng))
        for kind in CLASSES
        if kind.motion != "none"
        for _ in range(counts[kind.name])
    ]
    placed = (_place_one(crowd, name, places, rng) for name, places in wishes)
    return tuple(thing for thing in placed if thing is not None)


def _draw_counts(is_training: bool, rng: np.random.Generator) -> dict[ClassName, int]:
    """How many of each class; cones and barriers come in groups or not at all."""
    counts = {
        kind.name: int(rng.poisson(kind.train_count if is_training else kind.natural_count))
        for kind in CLASSES
    }
    counts["car"] = max(counts["car"], _MIN_CARS)
    for name in ("barrier", "traffic_cone"):
        counts[name] = 2 * counts[name] if rng.random() < 0.5 else 0
    return counts


def _places(street: Street, name: ClassName, rng: np.random.Generator) -> Iterator[Place]:
    """Some places of a class, each drawn when the one before it had no room."""
    return (draw_place(street, name, rng) for _ in range(_TRIES))


def _near_places(street: Street, name: ClassName, rng: np.random.Generator) -> Iterator[Place]:
    """Many places of a class, not far ahead of or behind the ego car."""
    for _ in range(_NEAR_TRIES):
        place = draw_place(street, name, rng)
        yield replace(place, x=float(rng.uniform(-_NEAR_M, _NEAR_M)))


def _place_one(
    crowd: _Crowd, name: ClassName, places: Iterable[Place], rng: np.random.Generator
) -> WorldObject | None:
    """Put one thing of a class where there is room first; None if nowhere."""
    kind = CLASS_BY_NAME[name]
    for place in places:
        has_rider = kind.motion == "cycle" and not place.is_parked
        size = _draw_size(kind, has_rider, rng)
        if crowd.admit(place, size):
            return WorldObject(
                kind=kind,
                size_lwh=size,
                attribute=place.attribute(kind.motion),
                mesh=object_mesh(name, size, rng, has_rider=has_rider),
                place=place,
            )
    return None


def _draw_size(
    kind: ObjectClass, has_rider: bool, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Length, width and height; one draw for all three, so that long cars are also tall ones."""
    common, own = rng.normal(), rng.normal(size=3)
    factors = np.clip(0.7 * common + 0.7 * own, -2.0, 2.0)
    length, width, height = np.asarray(kind.size_lwh_m) + factors * np.asarray(kind.spread_lwh_m)
    if has_rider:
        height += RIDER_HEIGHT_M[kind.name] - kind.size_lwh_m[2]
    return (round(float(length), 3), round(float(width), 3), round(float(height), 3))
