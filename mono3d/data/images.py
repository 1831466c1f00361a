"""Image files, read whole or refused; pixels as files have them, channels together."""

import io
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mono3d.data.files import DataPath, read_bytes
from mono3d.errors import DataError

_END_MARKS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND"}
_TAIL_BYTES = 4096


def read_image(path: DataPath) -> UInt8[np.ndarray, "h w 3"]:
    """Decode an image to RGB, in the pixel order of the file (orientation tags are ignored).

    Args:
        path: A JPEG or PNG file.

    Raises:
        DataError: If the file is missing, unreadable, cut short or not an image. Decoders fill
            what is missing of a file that was cut short with grey, so its end mark is looked for.
        StorageError: If the store that holds it cannot be used.
    """
    content = read_bytes(path)
    mark = _END_MARKS.get(path.suffix.lower(), b"")
    if mark not in content[-_TAIL_BYTES:]:
        raise DataError(f"{path}: image is cut short or empty ({len(content)} bytes, no end mark)")
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags)
    except cv2.error:  # of more than 2^30 pixels, whatever the file's size
        image = None
    if image is None:
        raise DataError(f"{path}: not a readable image ({len(content)} bytes)")
    return np.asarray(image, dtype=np.uint8)


def read_image_size(path: DataPath) -> tuple[int, int]:
    """Height and width in pixels, without decoding the image.

    Raises:
        DataError: If the file is missing, unreadable or not an image.
        StorageError: If the store that holds it cannot be used.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(path))) as image:
            return image.height, image.width
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise DataError(f"{path}: not a readable image") from None


def as_one(images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "v h w 3"]:
    """Images of one size; a single one is not copied."""
    return images[0][None] if len(images) == 1 else np.stack(images)


def channels_first(pixels: UInt8[np.ndarray, "v h w 3"]) -> UInt8[Tensor, "v 3 h w"]:
    """The images of a frame as a view: pixels stay as files have and convolutions want them."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def channels_last(images: UInt8[Tensor, "v 3 h w"]) -> UInt8[np.ndarray, "v h w 3"]:
    """The inverse of `channels_first`, a view too."""
    pixels: np.ndarray = images.permute(0, 2, 3, 1).numpy()
    return pixels
