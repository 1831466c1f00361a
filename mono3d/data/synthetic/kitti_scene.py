"""One world written as frames of a KITTI object folder: pictures, calibrations, labels, sweeps."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from mono3d.data.synthetic.kitti_calibration import calibrate
from mono3d.data.synthetic.kitti_labels import label_lines
from mono3d.data.synthetic.kitti_rig import CAMERA_CHANNEL, LIDAR_CHANNEL
from mono3d.data.synthetic.lidar import Sweep, scan
from mono3d.data.synthetic.render import render_cameras
from mono3d.data.synthetic.world import World

CALIBRATIONS = "calib"
LABELS = "label_2"


def write_scene(
    folder: Path,
    first: int,
    world: World,
    image_size: tuple[int, int],
    rng: np.random.Generator,
    *,
    has_labels: bool,
) -> Counter[str]:
    """Write the files of one scene.

    Args:
        folder: training/ or testing/, with the folders of each kind of file.
        first: Number of the scene's first frame.
        world: What to record; its rig is KITTI's.
        image_size: Width and height of the pictures; those that the world's rig was built for.
        rng: Draws the calibration and the LiDAR's noise.
        has_labels: Whether to write label files.

    Returns:
        How many labels of each type there are.
    """
    calibration, counts = calibrate(world.rig, rng), Counter[str]()
    velo_from_ego = np.linalg.inv(world.rig.lidar.ego_from_sensor)
    for number, time_s in enumerate(world.times_s.tolist(), first):
        name, snapshot = f"{number:06d}", world.snapshot(time_s)
        picture = render_cameras(world, snapshot, image_size)[CAMERA_CHANNEL]
        png = cv2.imencode(".png", picture.image)[1].tobytes()
        (folder / CAMERA_CHANNEL / f"{name}.png").write_bytes(png)
        (folder / CALIBRATIONS / f"{name}.txt").write_text(calibration.text())
        _write_sweep(folder / LIDAR_CHANNEL / f"{name}.bin", scan(world, snapshot, rng))
        if has_labels:
            lines = label_lines(
                world,
                snapshot,
                picture,
                projection=calibration.projection,
                cam_from_ego=calibration.rectified_from_velo @ velo_from_ego,
            )
            (folder / LABELS / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
            counts.update(line.split()[0] for line in lines)
    return counts


def _write_sweep(path: Path, sweep: Sweep) -> None:
    """x, y, z and reflectance in [0, 1]."""
    rows = sweep.points[:, :4] * np.array([1.0, 1.0, 1.0, 1 / 255], dtype=np.float32)
    rows.tofile(path)
