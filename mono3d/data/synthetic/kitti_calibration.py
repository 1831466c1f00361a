"""The calibration file of a KITTI frame, from the sensors that the frame was taken with.

Labels are in the rectified frame of camera 0. Camera 2, which takes the pictures, looks the same
way from 6 cm beside it, so P2 is its camera matrix times a small shift.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mono3d.data.synthetic.rig import Rig, rotation_ypr

# Where points of camera 0's rectified frame are in those of cameras 0 to 3, metres: KITTI's own.
_SHIFTS_M = (
    (0.0, 0.0, 0.0), (-0.5372, 0.0, 0.0), (0.0598, -0.0004, 0.0027), (-0.4729, 0.0024, 0.0027),
)  # fmt: skip
_PICTURES = 2
_VELO_IN_IMU_M = (0.81, -0.32, 0.80)
_UNRECTIFIED_RAD = 0.008


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """One scene's calibration.

    Attributes:
        projections: P0 to P3: rectified frame to pixels.
        rectify: R0_rect: camera 0's own frame to the rectified one.
        cam_from_velo: Tr_velo_to_cam: to camera 0's own frame.
        velo_from_imu: Tr_imu_to_velo.
    """

    projections: Float[NDArray[np.float64], "4 3 4"]
    rectify: Float[NDArray[np.float64], "3 3"]
    cam_from_velo: Float[NDArray[np.float64], "4 4"]
    velo_from_imu: Float[NDArray[np.float64], "4 4"]

    @property
    def projection(self) -> Float[NDArray[np.float64], "3 4"]:
        """P2, of the pictures."""
        projection: NDArray[np.float64] = self.projections[_PICTURES]
        return projection

    @property
    def rectified_from_velo(self) -> Float[NDArray[np.float64], "4 4"]:
        """LiDAR points to the frame of the labels."""
        turn = np.eye(4)
        turn[:3, :3] = self.rectify
        pose: NDArray[np.float64] = turn @ self.cam_from_velo
        return pose

    def text(self) -> str:
        """Content of the file."""
        rows = {f"P{i}": matrix for i, matrix in enumerate(self.projections)}
        rows |= {
            "R0_rect": self.rectify,
            "Tr_velo_to_cam": self.cam_from_velo[:3],
            "Tr_imu_to_velo": self.velo_from_imu[:3],
        }
        lines = (
            f"{name}: {' '.join(f'{value:.12e}' for value in matrix.ravel().tolist())}\n"
            for name, matrix in rows.items()
        )
        return "".join(lines)


def calibrate(rig: Rig, rng: np.random.Generator) -> Calibration:
    """Calibration of a rig of KITTI's.

    Args:
        rig: Its only camera is camera 2.
        rng: Draws by how much camera 0 is not yet rectified.
    """
    (camera,) = rig.cameras
    assert camera.intrinsic is not None, camera.channel
    shifts = np.tile(np.eye(4)[:3], (4, 1, 1))
    shifts[:, :, 3] = _SHIFTS_M
    camera_from_rectified = np.eye(4)
    camera_from_rectified[:3] = shifts[_PICTURES]
    ego_from_velo = rig.lidar.ego_from_sensor
    ego_from_rectified = camera.ego_from_sensor @ camera_from_rectified
    rectify, unrectify = rotation_ypr(*rng.normal(0.0, _UNRECTIFIED_RAD, 3)), np.eye(4)
    unrectify[:3, :3] = rectify.T
    ego_from_imu = np.eye(4)
    ego_from_imu[:3, 3] = ego_from_velo[:3, 3] - _VELO_IN_IMU_M
    return Calibration(
        projections=camera.intrinsic @ shifts,
        rectify=rectify,
        cam_from_velo=unrectify @ np.linalg.inv(ego_from_rectified) @ ego_from_velo,
        velo_from_imu=np.linalg.inv(ego_from_velo) @ ego_from_imu,
    )
