import numpy as np
import pytest

from mono3d.data.synthetic.nuscenes_rig import build_rig
from mono3d.data.synthetic.world import KEYFRAME_S, World, build_world


def test_velocities_are_the_change_of_the_centres(world: World) -> None:
    before, now, after = (world.snapshot(time_s) for time_s in (0.4, 0.5, 0.6))
    assert now.velocities == pytest.approx((after.centers - before.centers) / 0.2, abs=0.01)
    speeds = np.linalg.norm(now.velocities[:, :2], axis=1)
    assert speeds == pytest.approx([thing.place.speed for thing in world.objects], rel=0.05)


def test_ego_car_lies_on_the_ground_and_looks_along_the_road(world: World) -> None:
    terrain = world.street.terrain
    pose = world.snapshot(0.0).world_from_ego
    assert pose[2, 3] == pytest.approx(terrain.height(pose[0, 3], pose[1, 3]))
    # Two metres ahead of the car the road is still below its nose, within its sway.
    ahead = pose[:3, :3] @ np.array([2.0, 0.0, 0.0]) + pose[:3, 3]
    assert ahead[2] == pytest.approx(terrain.height(ahead[0], ahead[1]), abs=0.12)
    assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3), abs=1e-12)


def test_every_quad_has_its_owner(world: World) -> None:
    snapshot = world.snapshot(0.0)
    assert len(snapshot.owners) == len(snapshot.mesh.quads)
    for i, thing in enumerate(world.objects):
        quads = snapshot.mesh.quads[snapshot.owners == i + 1]
        assert len(quads) == len(thing.mesh.glow)
        reach = np.linalg.norm(thing.size_lwh) / 2
        assert np.linalg.norm(quads - snapshot.centers[i], axis=-1).max() <= reach


def test_keyframes_lie_around_time_zero(world: World) -> None:
    assert world.times_s.tolist() == [-KEYFRAME_S, 0.0, KEYFRAME_S]


def test_light_changes_within_a_scene(world: World) -> None:
    direct = {world.snapshot(time_s).light.direct for time_s in (-1.0, 0.0, 1.0)}
    assert len(direct) == 3


def test_seed_decides_the_world() -> None:
    def centers(seed: int) -> list[list[float]]:
        world = build_world(
            np.random.SeedSequence(seed),
            build_rig=build_rig,
            image_size=(64, 36),
            num_keyframes=2,
            promised=(),
            is_training=False,
        )
        result: list[list[float]] = world.snapshot(0.0).centers.tolist()
        return result

    assert centers(5) == centers(5) != centers(6)
