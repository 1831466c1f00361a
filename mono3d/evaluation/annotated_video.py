"""A video with boxes drawn on its frames.

Drawn on pixels and not with matplotlib, which takes half a second for a picture.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import to_rgb
from torch import Tensor

from mono3d.errors import StorageError
from mono3d.evaluation.drawing import PREDICTION_COLOR, detection_names, wireframe
from mono3d.structures import Detections, Frame

_CODEC = "mp4v"
_DARKENED = 0.35
_FRACTION_BITS = 4
_MAX_PX = 2.0**20
"""Lines that end right before the camera leave the image by far; what is drawn stays the same."""


class AnnotatedVideo:
    """An mp4 file with the detections of one camera's frames; used as a context.

    It appears under its name when the context is left, however that is.
    """

    def __init__(self, path: Path, *, rate_hz: float, class_names: Sequence[str]) -> None:
        """Nothing is written before the first frame, which says how large the picture is."""
        self._path = path
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._rate_hz = rate_hz
        self._class_names = class_names
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> "AnnotatedVideo":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._part.replace(self._path)

    def add(self, frame: Frame, found: Detections) -> None:
        """Write the next frame (v = 1) with what was found in it.

        Raises:
            StorageError: If the file cannot be written.
        """
        image = frame.images[0].permute(1, 2, 0).numpy()
        drawn = draw_detections(image, found, frame.projection[0], self._class_names)
        if self._writer is None:
            self._writer = self._open(drawn.shape[1], drawn.shape[0])
        self._writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*_CODEC)
        writer = cv2.VideoWriter(str(self._part), codec, self._rate_hz, (width, height))
        if not writer.isOpened():
            raise StorageError(
                f"cannot write {self._path} as video of {width}x{height} pixels at "
                f"{self._rate_hz:g} frames a second"
            )
        return writer


def draw_detections(
    image: UInt8[np.ndarray, "h w 3"],
    found: Detections,
    projection: Float[Tensor, "3 4"],
    class_names: Sequence[str],
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of an image with boxes as wireframes, their front tinted, and the best ones named."""
    height, width = image.shape[:2]
    lines, _, faces = wireframe(found.boxes, projection)
    color = tuple(round(255 * share) for share in to_rgb(PREDICTION_COLOR))
    thickness = max(round(height / 500), 1)
    style = {"lineType": cv2.LINE_AA, "shift": _FRACTION_BITS}
    dim = image.copy()
    # A dark line under each bright one: readable on sky and on asphalt.
    cv2.polylines(dim, _fixed_point(lines), False, (0, 0, 0), thickness + 2, **style)
    for face in _fixed_point(faces):  # all at once, overlapping ones would leave holes
        cv2.fillConvexPoly(dim, face, color, **style)
    drawn = cv2.addWeighted(image, 1 - _DARKENED, dim, _DARKENED, 0)
    cv2.polylines(drawn, _fixed_point(lines), False, color, thickness, **style)
    for text, left, top, is_right_aligned in detection_names(
        found, projection, (height, width), class_names
    ):
        _write_name(drawn, text, (left, top), is_right_aligned=is_right_aligned)
    return np.asarray(drawn, dtype=np.uint8)


def _fixed_point(pixels: Float[Tensor, "n points 2"]) -> list[np.ndarray]:
    """Points in OpenCV's integers with a fraction."""
    scaled = pixels.cpu().clamp(-_MAX_PX, _MAX_PX) * 2**_FRACTION_BITS
    return [*scaled.round().int().numpy()]


def _write_name(
    image: np.ndarray, text: str, place: tuple[float, float], *, is_right_aligned: bool
) -> None:
    """White words on a dark plate above a place, from it to the right or up to it."""
    size_px = max(image.shape[0] / 45, 10.0)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, size_px / 22
    thickness = max(round(size_px / 12), 1)
    (width, height), _ = cv2.getTextSize(text, font, scale, thickness)
    left = round(place[0]) - (width if is_right_aligned else 0)
    bottom = max(round(place[1]) - 4, height + 3)
    plate = image[max(bottom - height - 3, 0) : bottom + 4, max(left - 2, 0) : left + width + 3]
    plate[:] = plate // 2
    cv2.putText(image, text, (left, bottom), font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
