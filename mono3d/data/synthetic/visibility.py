"""How much of each object the cameras see together."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mono3d.data.synthetic.render import Picture, pinhole
from mono3d.data.synthetic.world import Snapshot, World

_STEPS = (np.arange(4) + 0.5) / 4 - 0.5
_GRID = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), axis=-1).reshape(-1, 3)


def visible_shares(
    world: World, snapshot: Snapshot, pictures: Mapping[str, Picture], image_size: tuple[int, int]
) -> Float[NDArray[np.float64], " n"]:
    """Share of each object, 0 to 1, that can be seen in the pictures of all cameras together.

    It is the share that lies within some picture (truncation) times the share of its area in the
    pictures that nothing hides (occlusion).

    Args:
        world: The scene.
        snapshot: The moment that was rendered.
        pictures: Its pictures, by channel.
        image_size: Width and height of the pictures.
    """
    seen = np.sum([picture.seen for picture in pictures.values()], axis=0)[1:]
    alone = np.sum([picture.alone for picture in pictures.values()], axis=0)[1:]
    shares: NDArray[np.float64] = _shares_in_view(world, snapshot, image_size) * (
        seen / np.maximum(alone, 1)
    )
    return shares


def _shares_in_view(
    world: World, snapshot: Snapshot, image_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Share of a grid of points in each box that falls into some picture."""
    sizes = np.array([thing.size_lwh for thing in world.objects]).reshape(-1, 1, 3)
    cos, sin = np.cos(snapshot.yaws)[:, None], np.sin(snapshot.yaws)[:, None]
    local = sizes * _GRID
    points = snapshot.centers[:, None] + np.stack(
        [
            cos * local[..., 0] - sin * local[..., 1],
            sin * local[..., 0] + cos * local[..., 1],
            local[..., 2],
        ],
        axis=-1,
    )
    in_view = np.zeros(points.shape[:2], dtype=bool)
    for sensor in world.rig.cameras:
        camera = pinhole(sensor, snapshot)
        x, y, z = np.moveaxis((points - camera.position) @ camera.rotation.T, -1, 0)
        depth = np.maximum(z, 0.1)
        u, v = camera.fx * x / depth + camera.cx, camera.fy * y / depth + camera.cy
        in_view |= (z > 0.1) & (u > 0) & (u < image_size[0]) & (v > 0) & (v < image_size[1])
    shares: NDArray[np.float64] = in_view.mean(axis=1)
    return shares
