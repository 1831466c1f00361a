"""Videos, frame by frame: memory does not grow with their length."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from mono3d.errors import DataError

# What is wrong with a video is ours to say, in one line. OpenCV reads this at its first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_USUAL_RATE_HZ = 25.0
_TOLERATED_S = 1.0
"""Containers say how many frames they hold, but not always exactly."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video file that can be read, as far as its first bytes say."""

    path: Path
    rate_hz: float
    """Frames a second."""
    num_frames: int | None
    """As the file says, which need not be exact; None if it does not."""

    def frames(
        self, *, every: int, is_skipped: Callable[[int], bool]
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        """Decode frames to RGB, upright if the file knows its orientation.

        Args:
            every: Only frames whose number is a multiple of it.
            is_skipped: Whether the frame of a number is passed over.

        Returns:
            Number, from 0, and pixels of each frame.

        Raises:
            DataError: After the last frame that can be read, if there is none or many are missing.
        """
        number = 0
        with _opened(self.path) as capture:
            while capture.grab():
                if number % every == 0 and not is_skipped(number):
                    is_whole, pixels = capture.retrieve()
                    if not is_whole:
                        raise DataError(f"{self.path}: frame {number} cannot be decoded")
                    yield number, np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
                number += 1
        if number == 0:
            raise DataError(f"{self.path}: holds no frame that can be read")
        if (self.num_frames or 0) - number > _TOLERATED_S * self.rate_hz:
            raise DataError(
                f"{self.path}: ends after {number} of its {self.num_frames} frames: "
                "it is cut short or damaged"
            )


def open_video(path: Path) -> Video:
    """Look at a video file.

    Raises:
        DataError: If it is none that can be read.
    """
    with _opened(path) as capture:
        count, rate_hz = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    return Video(
        path=path,
        rate_hz=rate_hz if 0 < rate_hz < np.inf else _USUAL_RATE_HZ,
        num_frames=int(count) if 0 < count < np.inf else None,
    )


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    finally:
        cv2.setLogLevel(level)
    try:
        if not capture.isOpened():
            raise DataError(f"{path}: not a readable video")
        yield capture
    finally:
        capture.release()
