"""Sensors on a car, and how cameras and LiDARs of every rig are described and drawn.

Ego frame: origin on the ground below the rear axle, x forward, y left, z up, metres. A fixed rig
over a flat road would make depth a function of the image row, so height, pitch and focal length
are drawn for every scene.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

_FORWARD_LEFT_UP_FROM_CAM = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """One sensor of the car.

    Attributes:
        channel: Its name in the data set.
        rotation: Sensor to ego.
        translation: Place of the sensor in the ego frame, metres.
        intrinsic: Camera matrix; pixel (0, 0) is the centre of the first one. None for LiDAR.
    """

    channel: str
    rotation: Float[NDArray[np.float64], "3 3"]
    translation: Float[NDArray[np.float64], "3"]
    intrinsic: Float[NDArray[np.float64], "3 3"] | None

    @property
    def ego_from_sensor(self) -> Float[NDArray[np.float64], "4 4"]:
        """Pose of the sensor."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self.rotation, self.translation
        return pose


@dataclass(frozen=True, kw_only=True)
class Beams:
    """What a spinning LiDAR looks at in one turn.

    Attributes:
        elevations_deg: Of its beams, lowest first.
        num_azimuths: Measurements of each beam.
    """

    elevations_deg: tuple[float, ...]
    num_azimuths: int


@dataclass(frozen=True, kw_only=True)
class Rig:
    """The sensors of one scene.

    Attributes:
        cameras: At least one.
        lidar: Its pose.
        beams: Its beams.
        view_ahead_m: Metres from the ego car ahead to the middle of what matters: 0 where cameras
            look all around.
    """

    cameras: tuple[Sensor, ...]
    lidar: Sensor
    beams: Beams
    view_ahead_m: float


RigBuilder = Callable[[np.random.Generator, tuple[int, int]], Rig]
"""Sensors of a new scene for pictures of (width, height) pixels."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A camera as it was meant to be built in, before each scene's own deviations.

    Attributes:
        channel: See Sensor.
        place: In the ego frame, metres.
        yaw_deg: To the left of straight ahead.
        focal_px: Focal length in an image `width_px` wide.
        width_px: See `focal_px`.
        center: Principal point, as shares of width and height.
    """

    channel: str
    place: tuple[float, float, float]
    yaw_deg: float
    focal_px: float
    width_px: int
    center: tuple[float, float]


def rotation_ypr(yaw: float, pitch: float, roll: float) -> Float[NDArray[np.float64], "3 3"]:
    """Rotation about z (to the left), then y (nose down), then x; radians."""
    (cz, sz), (cy, sy), (cx, sx) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    rotation: NDArray[np.float64] = about_z @ about_y @ about_x
    return rotation


def draw_common(rng: np.random.Generator) -> tuple[float, float]:
    """Common to all cameras of a scene: a focal factor (0.85 to 1.2), a lift (-0.2 to 0.5 m)."""
    return rng.uniform(0.85, 1.2), rng.uniform(-0.2, 0.5)


def draw_camera(
    mount: Mount,
    image_size: tuple[int, int],
    focal_factor: float,
    lift_m: float,
    rng: np.random.Generator,
) -> Sensor:
    """A camera with its own small errors: pitch has 1.3 degrees at one standard deviation.

    Args:
        mount: How it was meant.
        image_size: Width and height, pixels.
        focal_factor: On the focal length.
        lift_m: On the height.
        rng: Draws the rest.
    """
    width, height = image_size
    focal_px = mount.focal_px * width / mount.width_px * focal_factor * rng.normal(1.0, 0.005)
    cx = width * rng.normal(mount.center[0], 0.008) - 0.5
    cy = height * rng.normal(mount.center[1], 0.015) - 0.5
    errors_deg = rng.normal(0.0, (1.0, 1.3, 0.6))
    yaw, pitch, roll = np.radians(np.array([mount.yaw_deg, 0.0, 0.0]) + errors_deg)
    x, y, z = mount.place
    return Sensor(
        channel=mount.channel,
        rotation=rotation_ypr(yaw, pitch, roll) @ _FORWARD_LEFT_UP_FROM_CAM,
        translation=np.array([x, y, z + lift_m]) + rng.normal(0.0, 0.02, 3),
        intrinsic=np.array([[focal_px, 0.0, cx], [0.0, focal_px, cy], [0.0, 0.0, 1.0]]),
    )


def draw_lidar(
    channel: str,
    place: tuple[float, float, float],
    yaw_deg: float,
    lift_m: float,
    rng: np.random.Generator,
) -> Sensor:
    """A LiDAR, upright to a third of a degree at one standard deviation."""
    return Sensor(
        channel=channel,
        rotation=rotation_ypr(np.radians(yaw_deg), *rng.normal(0, 0.005, 2)),
        translation=np.asarray(place) + np.array([0.0, 0.0, lift_m]),
        intrinsic=None,
    )
