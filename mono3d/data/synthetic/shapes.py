"""One labelled thing as a mesh that fills its box: the ten classes, with or without riders."""

from collections.abc import Callable
from functools import partial

import numpy as np

from mono3d.data.synthetic import figures, heavy_vehicles, vehicles
from mono3d.data.synthetic.catalogue import ClassName
from mono3d.data.synthetic.mesh import Mesh, fitted, merge
from mono3d.data.synthetic.vehicles import Size

_BUILDERS: dict[ClassName, Callable[[Size, np.random.Generator], list[Mesh]]] = {
    "car": vehicles.car,
    "truck": vehicles.truck,
    "bus": vehicles.bus,
    "trailer": heavy_vehicles.trailer,
    "construction_vehicle": heavy_vehicles.construction_vehicle,
    "pedestrian": figures.pedestrian,
    "motorcycle": partial(figures.motorcycle, has_rider=False),
    "bicycle": partial(figures.bicycle, has_rider=False),
    "traffic_cone": figures.traffic_cone,
    "barrier": figures.barrier,
}
_RIDDEN_BUILDERS: dict[ClassName, Callable[[Size, np.random.Generator], list[Mesh]]] = {
    "motorcycle": partial(figures.motorcycle, has_rider=True),
    "bicycle": partial(figures.bicycle, has_rider=True),
}


def object_mesh(
    name: ClassName, size_lwh: Size, rng: np.random.Generator, *, has_rider: bool = False
) -> Mesh:
    """A recognisable shape of a class.

    Args:
        name: nuScenes detection name.
        size_lwh: Length, width and height of its box, metres.
        rng: Draws colours and variants.
        has_rider: Whether somebody sits on it; only cycles can have one.

    Returns:
        A mesh inside the box, centred on it; x forward, y left, z up.
    """
    builders = _RIDDEN_BUILDERS if has_rider else _BUILDERS
    return fitted(merge(builders[name](size_lwh, rng)), size_lwh)
