import numpy as np
import pytest

from mono3d.data.synthetic.rig import Mount, Sensor, draw_camera, draw_lidar, rotation_ypr

MOUNT = Mount(
    channel="ahead",
    place=(1.0, 0.5, 1.6),
    yaw_deg=0.0,
    focal_px=700.0,
    width_px=1000,
    center=(0.5, 0.4),
)


def _cameras() -> list[Sensor]:
    return [
        draw_camera(MOUNT, (500, 200), 1.1, 0.3, np.random.default_rng(seed)) for seed in range(60)
    ]


def test_a_camera_is_as_it_was_meant_but_for_small_errors() -> None:
    intrinsics = np.array([camera.intrinsic for camera in _cameras()])
    assert intrinsics[:, 0, 0] == pytest.approx(385.0, rel=0.03)
    assert (intrinsics[:, 0, 0] == intrinsics[:, 1, 1]).all()
    assert intrinsics[:, 0, 2].mean() == pytest.approx(249.5, abs=2.0)
    assert intrinsics[:, 1, 2].mean() == pytest.approx(79.5, abs=2.0)
    places = np.array([camera.translation for camera in _cameras()])
    assert places.mean(axis=0) == pytest.approx([1.0, 0.5, 1.9], abs=0.02)
    pitch_deg = np.degrees([np.arcsin(camera.rotation[2, 2]) for camera in _cameras()])
    assert 0.8 < pitch_deg.std() < 2.0


def test_the_pose_of_a_sensor_takes_its_points_to_the_car() -> None:
    lidar = draw_lidar("top", (1.0, 0.0, 2.0), 90.0, 0.5, np.random.default_rng(0))
    ahead = lidar.ego_from_sensor @ np.array([10.0, 0.0, 0.0, 1.0])
    assert ahead[:3] == pytest.approx([1.0, 10.0, 2.5], abs=0.2)
    assert lidar.intrinsic is None


def test_rotation_turns_left_and_lowers_the_nose() -> None:
    forward = np.array([1.0, 0.0, 0.0])
    assert rotation_ypr(np.pi / 2, 0.0, 0.0) @ forward == pytest.approx([0, 1, 0])
    assert (rotation_ypr(0.0, 0.1, 0.0) @ forward)[2] == pytest.approx(-np.sin(0.1))
