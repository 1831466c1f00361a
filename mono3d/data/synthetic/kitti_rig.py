"""KITTI's car: the left colour camera, which looks ahead, and a LiDAR of 64 beams.

Places are those of the set-up that KITTI publishes (Geiger et al., IJRR 2013): the camera 1.65 m
and the LiDAR 1.73 m above the ground, 27 cm apart along the car.
"""

import numpy as np

from mono3d.data.synthetic.rig import Beams, Mount, Rig, draw_camera, draw_common, draw_lidar

CAMERA_CHANNEL = "image_2"
LIDAR_CHANNEL = "velodyne"
_CAMERA = Mount(
    channel=CAMERA_CHANNEL,
    place=(1.03, 0.06, 1.65),
    yaw_deg=0.0,
    focal_px=721.54,
    width_px=1242,
    center=(0.491, 0.462),
)
_LIDAR_PLACE = (0.76, 0.0, 1.73)
HDL_64E = Beams(
    elevations_deg=tuple(
        np.concatenate([np.linspace(-24.33, -8.83, 32), np.linspace(-8.33, 2.0, 32)]).tolist()
    ),
    num_azimuths=2083,
)
"""A lower block of beams half a degree apart, and an upper one of a third."""
_VIEW_AHEAD_M = 22.0


def build_rig(rng: np.random.Generator, image_size: tuple[int, int]) -> Rig:
    """Sensors of a new scene for pictures of (width, height) pixels."""
    focal_factor, lift_m = draw_common(rng)
    return Rig(
        cameras=(draw_camera(_CAMERA, image_size, focal_factor, lift_m, rng),),
        lidar=draw_lidar(LIDAR_CHANNEL, _LIDAR_PLACE, 0.0, lift_m, rng),
        beams=HDL_64E,
        view_ahead_m=_VIEW_AHEAD_M,
    )
