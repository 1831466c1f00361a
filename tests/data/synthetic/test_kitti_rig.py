import numpy as np
import pytest

from mono3d.data.synthetic.kitti_rig import CAMERA_CHANNEL, HDL_64E, build_rig
from mono3d.data.synthetic.rig import Rig


def _rigs() -> list[Rig]:
    return [build_rig(np.random.default_rng(seed), (1242, 375)) for seed in range(60)]


def test_one_camera_looks_ahead_from_kittis_height_with_kittis_focal_length() -> None:
    cameras = [camera for rig in _rigs() for camera in rig.cameras]
    assert {camera.channel for camera in cameras} == {CAMERA_CHANNEL}
    assert len(cameras) == 60
    for camera in cameras:
        assert camera.rotation @ np.array([0.0, 0.0, 1.0]) == pytest.approx([1, 0, 0], abs=0.12)
    heights_m = np.array([camera.translation[2] for camera in cameras])
    assert heights_m.min() == pytest.approx(1.45, abs=0.1)
    assert heights_m.max() == pytest.approx(2.15, abs=0.1)
    focal_px = np.array([np.asarray(camera.intrinsic)[0, 0] for camera in cameras])
    assert focal_px.min() == pytest.approx(0.85 * 721.5, rel=0.05)
    assert focal_px.max() == pytest.approx(1.2 * 721.5, rel=0.05)


def test_the_lidar_is_upright_behind_the_camera_and_rises_with_it() -> None:
    for rig in _rigs():
        assert rig.lidar.rotation == pytest.approx(np.eye(3), abs=0.03)
        apart = rig.lidar.translation - rig.cameras[0].translation
        assert apart == pytest.approx([-0.27, -0.06, 0.08], abs=0.1)


def test_the_beams_are_those_of_the_data_sheet() -> None:
    elevations = np.array(HDL_64E.elevations_deg)
    assert len(elevations) == 64
    assert (elevations[0], elevations[-1]) == (-24.33, 2.0)
    assert np.diff(elevations[:32]) == pytest.approx(0.5)
    assert np.diff(elevations[32:]) == pytest.approx(1 / 3, abs=1e-3)
