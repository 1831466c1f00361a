"""nuScenes' six cameras and its LiDAR; what differs between the cameras is nuScenes' own spread."""

import numpy as np

from mono3d.data.synthetic.rig import Beams, Mount, Rig, draw_camera, draw_common, draw_lidar

_REFERENCE_WIDTH_PX = 1600
# Channel: x, y, z of its place, yaw (degrees to the left), focal length in pixels of 1600.
_CAMERAS = {
    "CAM_FRONT": (1.70, 0.02, 1.51, 0.0, 1266.0),
    "CAM_FRONT_RIGHT": (1.55, -0.49, 1.50, -55.0, 1261.0),
    "CAM_BACK_RIGHT": (1.01, -0.48, 1.56, -110.0, 1260.0),
    "CAM_BACK": (0.03, 0.00, 1.58, 180.0, 809.0),
    "CAM_BACK_LEFT": (1.04, 0.48, 1.59, 110.0, 1257.0),
    "CAM_FRONT_LEFT": (1.52, 0.49, 1.51, 55.0, 1273.0),
}
CAMERA_CHANNELS = tuple(_CAMERAS)
LIDAR_CHANNEL = "LIDAR_TOP"
_LIDAR_PLACE = (0.94, 0.0, 1.84)
_LIDAR_YAW_DEG = -90.0
HDL_32E = Beams(elevations_deg=tuple(np.linspace(-30.67, 10.67, 32).tolist()), num_azimuths=1080)
"""Beams of the LiDAR on nuScenes' cars, and their elevations."""


def build_rig(rng: np.random.Generator, image_size: tuple[int, int]) -> Rig:
    """Sensors of a new scene for pictures of (width, height) pixels."""
    focal_factor, lift_m = draw_common(rng)
    cameras = tuple(
        draw_camera(
            Mount(
                channel=channel,
                place=(x, y, z),
                yaw_deg=yaw_deg,
                focal_px=focal_px,
                width_px=_REFERENCE_WIDTH_PX,
                center=(0.51, 0.53),
            ),
            image_size,
            focal_factor,
            lift_m,
            rng,
        )
        for channel, (x, y, z, yaw_deg, focal_px) in _CAMERAS.items()
    )
    lidar = draw_lidar(LIDAR_CHANNEL, _LIDAR_PLACE, _LIDAR_YAW_DEG, lift_m, rng)
    return Rig(cameras=cameras, lidar=lidar, beams=HDL_32E, view_ahead_m=0.0)
