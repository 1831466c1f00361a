from pathlib import Path

import numpy as np
import pytest

from mono3d.data.kitti_format import read_calibration
from mono3d.data.synthetic.kitti_calibration import Calibration, calibrate
from mono3d.data.synthetic.render import pinhole
from mono3d.data.synthetic.world import World


@pytest.fixture(scope="module")
def calibration(kitti_world: World) -> Calibration:
    return calibrate(kitti_world.rig, np.random.default_rng(0))


def test_what_is_read_back_is_what_was_written(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "000000.txt"
    path.write_text(calibration.text())
    read = read_calibration(path)
    assert read.projection == pytest.approx(calibration.projection, abs=1e-9)
    assert read.cam_from_velo == pytest.approx(calibration.rectified_from_velo, abs=1e-9)


def test_the_file_has_kittis_lines(calibration: Calibration) -> None:
    counts = {
        name: len(values.split())
        for name, values in (line.split(": ") for line in calibration.text().splitlines())
    }
    projections = {f"P{i}": 12 for i in range(4)}
    assert counts == projections | {"R0_rect": 9, "Tr_velo_to_cam": 12, "Tr_imu_to_velo": 12}


def test_lidar_points_fall_on_the_pixels_where_the_renderer_draws_them(
    kitti_world: World, calibration: Calibration
) -> None:
    snapshot = kitti_world.snapshot(0.0)
    rng = np.random.default_rng(1)
    velo = np.column_stack([rng.uniform((5, -8, -2), (60, 8, 3), (50, 3)), np.ones(50)])
    uvw = velo @ (calibration.projection @ calibration.rectified_from_velo).T
    world = velo @ (snapshot.world_from_ego @ kitti_world.rig.lidar.ego_from_sensor).T
    camera = pinhole(kitti_world.rig.cameras[0], snapshot)
    x, y, z = ((world[:, :3] - camera.position) @ camera.rotation.T).T
    # The renderer counts from the outer edge of the first pixel, files from its centre.
    assert uvw[:, 0] / uvw[:, 2] == pytest.approx(camera.fx * x / z + camera.cx - 0.5, abs=1e-6)
    assert uvw[:, 1] / uvw[:, 2] == pytest.approx(camera.fy * y / z + camera.cy - 0.5, abs=1e-6)


def test_camera_2_stands_six_centimetres_beside_camera_0(calibration: Calibration) -> None:
    p0, p2 = calibration.projections[[0, 2]]
    assert (p0[:, 3] == 0).all()
    assert p2[:, :3] == pytest.approx(p0[:, :3])
    assert np.linalg.solve(p2[:, :3], p2[:, 3]) == pytest.approx([0.06, 0.0, 0.003], abs=1e-3)


def test_rotations_are_proper_and_camera_0_needs_rectifying(calibration: Calibration) -> None:
    for matrix in (
        calibration.rectify,
        calibration.cam_from_velo[:3, :3],
        calibration.velo_from_imu[:3, :3],
    ):
        assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
    assert np.abs(calibration.rectify - np.eye(3)).max() > 1e-3
    ahead, left = calibration.rectified_from_velo[:3, 0], calibration.rectified_from_velo[:3, 1]
    assert ahead == pytest.approx([0, 0, 1], abs=0.12)
    assert left == pytest.approx([-1, 0, 0], abs=0.12)
