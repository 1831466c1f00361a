import numpy as np

from mono3d.data.synthetic.scenery import build_scenery
from mono3d.data.synthetic.street import build_street


def test_scenery_leaves_the_road_free_up_to_the_height_of_a_bus() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        street = build_street(rng)
        mesh, terrain = build_scenery(street, rng), street.terrain
        x, y, z = np.moveaxis(mesh.quads.reshape(-1, 3), -1, 0)
        heights = z - np.array([terrain.height(*at) for at in zip(x, y, strict=True)])
        side = np.abs(y - 0.5 * terrain.bend * x * x)
        assert side[heights < 1.8].min() > terrain.half_road + 0.3
        assert heights.max() > 5


def test_crossing_streets_are_not_built_up() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        street = build_street(rng)
        terrain = street.terrain
        centers = build_scenery(street, rng).quads.mean(axis=1)
        assert (np.abs(centers[:, 0] - terrain.cross_x) > terrain.half_cross).mean() > 0.995
