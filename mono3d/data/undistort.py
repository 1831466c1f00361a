"""Lens distortion taken out of images, so that a pinhole camera describes them.

The models are OpenCV's (module calib3d): radial and tangential distortion of Brown and Conrady,
with a rational radial part, thin prisms and a tilted sensor where there are more coefficients (ROS:
`plumb_bob`, `rational_polynomial`), and the fisheye model of Kannala and Brandt (PAMI 2006; ROS:
`equidistant`, `fisheye`).
"""

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mono3d.errors import DataError

_COUNTS = (4, 5, 8, 12, 14)
_FISHEYE_COUNTS = (4,)


@dataclass(frozen=True)
class Distortion:
    """Coefficients of a lens, in OpenCV's order."""

    coefficients: tuple[float, ...]
    """k1, k2, p1, p2[, k3[, k4, k5, k6[, s1, s2, s3, s4[, tx, ty]]]]; of a fisheye k1 to k4."""
    fisheye: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no lens.

        Raises:
            DataError: If there is a wrong number of coefficients, or one that is not finite.
        """
        counts = _FISHEYE_COUNTS if self.fisheye else _COUNTS
        if len(self.coefficients) not in counts:
            lens = "fisheye lens" if self.fisheye else "lens"
            raise DataError(
                f"{len(self.coefficients)} distortion coefficients; a {lens} has "
                f"{' or '.join(map(str, counts))}"
            )
        if not all(map(isfinite, self.coefficients)):
            raise DataError(f"distortion {self.coefficients}: a coefficient is not finite")


def undistort(
    image: UInt8[np.ndarray, "h w 3"],
    projection: Float[np.ndarray, "3 4"],
    distortion: Distortion,
) -> UInt8[np.ndarray, "h w 3"]:
    """The image as the same camera would take it through a lens without distortion.

    Where the lens saw nothing the result is black. What to look up where is worked out once for a
    camera and size.

    Args:
        image: As the lens made it.
        projection: Of the camera; it holds for the result.
        distortion: Of its lens.

    Raises:
        DataError: If the pixel axes of the camera are not at right angles.
    """
    if projection[0, 1] or projection[1, 0]:
        raise DataError(f"camera {projection.tolist()}: a camera with a lens has no skew")
    intrinsics = tuple(projection[:, :3].ravel().tolist())
    maps = _maps(intrinsics, distortion, (image.shape[0], image.shape[1]))
    return np.asarray(cv2.remap(image, *maps, cv2.INTER_LINEAR), dtype=np.uint8)


@lru_cache(maxsize=4)
def _maps(
    intrinsics: tuple[float, ...], distortion: Distortion, image_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's fixed-point lookup of an undistorted image of this height and width."""
    matrix = np.array(intrinsics, dtype=np.float64).reshape(3, 3)
    init = (
        cv2.fisheye.initUndistortRectifyMap if distortion.fisheye else cv2.initUndistortRectifyMap
    )
    coefficients = np.array(distortion.coefficients, dtype=np.float64)
    first, second = init(matrix, coefficients, np.eye(3), matrix, image_size[::-1], cv2.CV_16SC2)
    return first, second
