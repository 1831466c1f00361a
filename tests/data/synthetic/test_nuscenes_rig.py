import numpy as np
import pytest

from mono3d.data.synthetic.nuscenes_rig import CAMERA_CHANNELS, build_rig
from mono3d.data.synthetic.rig import Rig


def _rigs() -> list[Rig]:
    return [build_rig(np.random.default_rng(seed), (800, 448)) for seed in range(40)]


@pytest.mark.parametrize(
    ("channel", "yaw_deg"), [("CAM_FRONT", 0), ("CAM_BACK", 180), ("CAM_BACK_LEFT", 110)]
)
def test_cameras_look_where_their_names_say(channel: str, yaw_deg: float) -> None:
    direction = [np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg)), 0.0]
    for rig in _rigs():
        (sensor,) = (camera for camera in rig.cameras if camera.channel == channel)
        assert sensor.rotation @ np.array([0.0, 0.0, 1.0]) == pytest.approx(direction, abs=0.12)
        assert sensor.rotation @ np.array([0.0, 1.0, 0.0]) == pytest.approx([0, 0, -1], abs=0.12)
        assert sensor.rotation @ sensor.rotation.T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(sensor.rotation) == pytest.approx(1)


def test_all_six_cameras_and_the_lidar_are_there() -> None:
    rig = build_rig(np.random.default_rng(0), (800, 448))
    assert tuple(camera.channel for camera in rig.cameras) == CAMERA_CHANNELS
    assert len(CAMERA_CHANNELS) == 6
    # The LiDAR's y axis points ahead, as on nuScenes' cars.
    assert rig.lidar.rotation @ np.array([0.0, 1.0, 0.0]) == pytest.approx([1, 0, 0], abs=0.03)


def test_focal_height_and_pitch_vary_between_scenes() -> None:
    fronts = [rig.cameras[0] for rig in _rigs()]
    focal = np.array([np.asarray(camera.intrinsic)[0, 0] for camera in fronts])
    # 1266 px at 1600 wide is 633 at 800.
    assert focal.min() == pytest.approx(0.85 * 633, rel=0.08)
    assert focal.max() == pytest.approx(1.2 * 633, rel=0.08)
    assert np.ptp([camera.translation[2] for camera in fronts]) > 0.5
    pitch_deg = np.degrees([np.arcsin(camera.rotation[2, 2]) for camera in fronts])
    assert 0.8 < pitch_deg.std() < 2.0


def test_back_camera_is_wider_than_the_front_one() -> None:
    for rig in _rigs()[:5]:
        focal = {c.channel: np.asarray(c.intrinsic)[0, 0] for c in rig.cameras}
        assert focal["CAM_BACK"] / focal["CAM_FRONT"] == pytest.approx(809 / 1266, rel=0.04)
