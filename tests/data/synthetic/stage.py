"""A world with nothing in it but what a test puts there."""

from dataclasses import replace

import numpy as np

from mono3d.data.synthetic.catalogue import CLASS_BY_NAME, ClassName
from mono3d.data.synthetic.layout import WorldObject
from mono3d.data.synthetic.mesh import block, merge
from mono3d.data.synthetic.shapes import object_mesh
from mono3d.data.synthetic.sites import Place
from mono3d.data.synthetic.world import World

SIDE_M = -3.0
"""Where the ego car drives."""


def thing(name: ClassName, x: float, *, side: float = SIDE_M, heading: float = 0.0) -> WorldObject:
    """Something of mean size; as it is, straight ahead of the ego car and seen from behind."""
    kind = CLASS_BY_NAME[name]
    return WorldObject(
        kind=kind,
        size_lwh=kind.size_lwh_m,
        attribute="",
        mesh=object_mesh(name, kind.size_lwh_m, np.random.default_rng(0)),
        place=Place(x=x, side=side, heading=heading),
    )


def staged(world: World, *things: WorldObject) -> World:
    """The street and the rig of a world, with the ego car at x = 0 and these things only."""
    nowhere = merge([block((-1.0, 1.0, -1.0, 1.0), (-90.0, -80.0), (0, 0, 0))])
    ego = Place(x=0.0, side=SIDE_M, heading=0.0)
    return replace(world, objects=things, scenery=nowhere, ego=ego)
