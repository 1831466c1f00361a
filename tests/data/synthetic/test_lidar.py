import numpy as np
import pytest

from mono3d.data.synthetic.lidar import Sweep, scan
from mono3d.data.synthetic.nuscenes_rig import HDL_32E
from mono3d.data.synthetic.world import Snapshot, World


@pytest.fixture(scope="module")
def snapshot(world: World) -> Snapshot:
    return world.snapshot(0.0)


@pytest.fixture(scope="module")
def sweep(world: World, snapshot: Snapshot) -> Sweep:
    return scan(world, snapshot, np.random.default_rng(0))


def test_points_have_nuscenes_columns(sweep: Sweep) -> None:
    x, y, z, intensity, beam = sweep.points.T
    assert sweep.points.dtype == np.float32
    assert 10_000 < len(sweep.points) < 32 * 1080
    assert set(np.unique(beam)) <= set(range(32))
    assert intensity.min() >= 0
    assert intensity.max() <= 255
    elevation = np.degrees(np.arctan2(z, np.hypot(x, y)))
    assert elevation == pytest.approx(np.array(HDL_32E.elevations_deg)[beam.astype(int)], abs=0.01)


def test_objects_return_points_inside_their_boxes_only(
    world: World, snapshot: Snapshot, sweep: Sweep
) -> None:
    points = _to_world(world, snapshot, sweep)
    hit = 0
    for i, thing in enumerate(world.objects):
        mine = points[sweep.owners == i + 1] - snapshot.centers[i]
        cos, sin = np.cos(snapshot.yaws[i]), np.sin(snapshot.yaws[i])
        local = mine @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        assert (np.abs(local) <= np.array(thing.size_lwh) / 2 + 1e-4).all(), thing.kind.name
        hit += len(mine) > 0
    assert hit > 0.5 * len(world.objects)  # others hide the rest, or it is far away


def _to_world(world: World, snapshot: Snapshot, sweep: Sweep) -> np.ndarray:  # type: ignore[type-arg]
    lidar, pose = world.rig.lidar, snapshot.world_from_ego
    ego = sweep.points[:, :3].astype(float) @ lidar.rotation.T + lidar.translation
    result: np.ndarray = ego @ pose[:3, :3].T + pose[:3, 3]  # type: ignore[type-arg]
    return result


def test_many_points_lie_on_the_ground_and_none_below(
    world: World, snapshot: Snapshot, sweep: Sweep
) -> None:
    points, terrain = _to_world(world, snapshot, sweep), world.street.terrain
    heights = points[:, 2] - [terrain.height(x, y) for x, y in points[:, :2].tolist()]
    assert (np.abs(heights) < 0.02).mean() > 0.2
    assert heights.min() > -0.03


def test_ranges_are_nearest_first(world: World, snapshot: Snapshot, sweep: Sweep) -> None:
    """Nothing of an object is seen in the shade of another one."""
    ranges = np.linalg.norm(sweep.points[:, :3], axis=1)
    assert ranges.min() > 1.0
    assert ranges.max() < 80.1


def test_noise_is_drawn_from_the_generator(world: World, snapshot: Snapshot, sweep: Sweep) -> None:
    again = scan(world, snapshot, np.random.default_rng(0))
    other = scan(world, snapshot, np.random.default_rng(1))
    assert np.array_equal(again.points, sweep.points)
    assert len(other.points) != len(sweep.points)
