"""Videos whose frames tell their number."""

from pathlib import Path

import cv2
import numpy as np

STEP = 5
"""Frame n has red n * STEP, and blue 255 - n * STEP."""


def write_video(
    path: Path, num_frames: int, *, size: tuple[int, int] = (64, 96), rate_hz: float = 10.0
) -> Path:
    """A Motion JPEG of plain frames, height and width as given."""
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), codec, rate_hz, size[::-1])
    assert writer.isOpened()
    for number in range(num_frames):
        blue_green_red = (255 - number * STEP, 40, number * STEP)
        writer.write(np.full((*size, 3), blue_green_red, np.uint8))
    writer.release()
    return path


def number_of(image: np.ndarray) -> int:
    """The number that a frame's red says."""
    return round(float(image[..., 0].mean()) / STEP)
