"""The sensors on the car: six cameras and a LiDAR, placed and tuned a little differently each time.

Ego frame: origin on the ground below the rear axle, x forward, y left, z up, metres. A fixed rig
over a flat road would make depth a function of the image row, so height, pitch and focal length
are drawn for every scene; what differs between the cameras is nuScenes' own spread.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

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
_FORWARD_LEFT_UP_FROM_CAM = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """One sensor of the car.

    Attributes:
        channel: nuScenes channel name.
        rotation: Sensor to ego.
        translation: Place of the sensor in the ego frame, metres.
        intrinsic: Camera matrix; pixel (0, 0) is the centre of the first one. None for LiDAR.
    """

    channel: str
    rotation: Float[NDArray[np.float64], "3 3"]
    translation: Float[NDArray[np.float64], "3"]
    intrinsic: Float[NDArray[np.float64], "3 3"] | None


@dataclass(frozen=True, kw_only=True)
class Rig:
    """The sensors of one scene."""

    cameras: tuple[Sensor, ...]
    lidar: Sensor


def rotation_ypr(yaw: float, pitch: float, roll: float) -> Float[NDArray[np.float64], "3 3"]:
    """Rotation about z (to the left), then y (nose down), then x; radians."""
    (cz, sz), (cy, sy), (cx, sx) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    rotation: NDArray[np.float64] = about_z @ about_y @ about_x
    return rotation


def build_rig(rng: np.random.Generator, image_size: tuple[int, int]) -> Rig:
    """Sensors of a new scene for pictures of (width, height) pixels.

    The focal factor (0.85 to 1.2) and the height (-0.2 to +0.5 m) are common to all cameras of
    the scene; pitch (1.3 degrees at one standard deviation) and the rest are each camera's own.
    """
    focal_factor, lift = rng.uniform(0.85, 1.2), rng.uniform(-0.2, 0.5)
    cameras = tuple(
        _build_camera(channel, image_size, focal_factor, lift, rng) for channel in _CAMERAS
    )
    lidar = Sensor(
        channel=LIDAR_CHANNEL,
        rotation=rotation_ypr(np.radians(_LIDAR_YAW_DEG), *rng.normal(0, 0.005, 2)),
        translation=np.asarray(_LIDAR_PLACE) + np.array([0.0, 0.0, lift]),
        intrinsic=None,
    )
    return Rig(cameras=cameras, lidar=lidar)


def _build_camera(
    channel: str,
    image_size: tuple[int, int],
    focal_factor: float,
    lift: float,
    rng: np.random.Generator,
) -> Sensor:
    *place, yaw_deg, reference_px = _CAMERAS[channel]
    width, height = image_size
    focal_px = reference_px * width / _REFERENCE_WIDTH_PX * focal_factor * rng.normal(1.0, 0.005)
    cx, cy = width * rng.normal(0.51, 0.008) - 0.5, height * rng.normal(0.53, 0.015) - 0.5
    yaw, pitch, roll = np.radians(np.array([yaw_deg, 0.0, 0.0]) + rng.normal(0.0, (1.0, 1.3, 0.6)))
    return Sensor(
        channel=channel,
        rotation=rotation_ypr(yaw, pitch, roll) @ _FORWARD_LEFT_UP_FROM_CAM,
        translation=np.array([place[0], place[1], place[2] + lift]) + rng.normal(0.0, 0.02, 3),
        intrinsic=np.array([[focal_px, 0.0, cx], [0.0, focal_px, cy], [0.0, 0.0, 1.0]]),
    )
