"""Geometry and colour changes of frames: image, projection, boxes and points change together."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mono3d.data.images import as_one, channels_first, channels_last
from mono3d.geometry.angles import wrap
from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.geometry.camera import affine_projection, mirrored_camera
from mono3d.structures import Boxes3D, Frame


@dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """Largest random change of brightness and contrast, as shares of the full range."""

    brightness: float = 0.2
    contrast: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Window:
    """Part of a resized image."""

    zoom: float = 1.0
    """Width of the resized image, in widths of the part; >= 1."""
    place: float = 0.5
    """Where the part lies in it, from 0, at its left edge, to 1."""


_WHOLE = Window()
_MIRROR_X = torch.tensor([-1.0, 1, 1])
_MIRROR_Y = torch.tensor([1.0, -1, 1, 1])


def fit_to_size(frame: Frame, image_size: tuple[int, int], window: Window = _WHOLE) -> Frame:
    """Resize, and keep of the columns a window and the lowest rows: what lies above is mostly sky.

    An image that is too low after resizing gets black rows below. Labelled boxes that are cut away
    leave their camera.

    Args:
        frame: Of any image size.
        image_size: Wanted height and width, pixels.
        window: The whole width unless given, the same in all cameras.
    """
    height, width = frame.images.shape[-2:]
    wanted_height, wanted_width = image_size
    if (height, width) == image_size and window.zoom == 1:
        return frame
    resized_width = round(wanted_width * window.zoom)
    resized_height = round(height * resized_width / width)
    top = max(resized_height - wanted_height, 0)
    left = round((resized_width - wanted_width) * window.place)
    resized = (resized_height, resized_width)
    images = [_fit(pixels, image_size, resized, left) for pixels in channels_last(frame.images)]
    # Pixel centres: u' + 0.5 = scale * (u + 0.5).
    across, down = resized_width / width, resized_height / height
    affine = torch.tensor(
        [[across, 0, (across - 1) / 2 - left], [0, down, (down - 1) / 2 - top]],
        dtype=frame.projection.dtype,
    )
    projection = affine_projection(frame.projection, affine)
    boxes_cam = frame.boxes_cam
    if boxes_cam is not None and (top > 0 or resized_width > wanted_width):
        cameras = zip(boxes_cam, projection, strict=True)
        boxes_cam = tuple(_in_view(boxes, camera, image_size) for boxes, camera in cameras)
    return replace(
        frame, images=channels_first(as_one(images)), projection=projection, boxes_cam=boxes_cam
    )


def _in_view(boxes: Boxes3D, projection: Tensor, image_size: tuple[int, int]) -> Boxes3D:
    corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
    return boxes.select(hull_2d(corners, projection, image_size)[1])


def _fit(
    pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], resized: tuple[int, int], left: int
) -> UInt8[np.ndarray, "hf wf 3"]:
    if pixels.shape[:2] != resized:
        pixels = cv2.resize(pixels, resized[::-1], interpolation=cv2.INTER_AREA)
    pixels = pixels[-size[0] :, left : left + size[1]]
    if len(pixels) < size[0]:
        pixels = np.pad(pixels, ((0, size[0] - len(pixels)), (0, 0), (0, 0)))
    return pixels


def flip(frame: Frame, out: UInt8[np.ndarray, "v h w 3"] | None = None) -> Frame:
    """The mirrored moment: left and right are swapped in images, boxes and points.

    Args:
        frame: Stays as it is.
        out: Where the mirrored pixels go; None is memory of their own.
    """
    projection, bev_from_cam = mirrored_camera(
        frame.projection, frame.bev_from_cam, frame.images.shape[-1]
    )
    return replace(
        frame,
        images=_each(frame.images, lambda pixels, to: cv2.flip(pixels, 1, to), out),
        projection=projection,
        bev_from_cam=bev_from_cam,
        boxes_cam=None if frame.boxes_cam is None else tuple(map(_mirror_cam, frame.boxes_cam)),
        boxes_bev=None if frame.boxes_bev is None else _mirror_bev(frame.boxes_bev),
        points=None if frame.points is None else frame.points * _MIRROR_Y,
    )


def _mirror_cam(boxes: Boxes3D) -> Boxes3D:
    return replace(
        boxes,
        centers=boxes.centers * _MIRROR_X,
        yaw=wrap(torch.pi - boxes.yaw),
        velocity=boxes.velocity * _MIRROR_X[:2],
    )


def _mirror_bev(boxes: Boxes3D) -> Boxes3D:
    return replace(
        boxes,
        centers=boxes.centers * _MIRROR_Y[:3],
        yaw=wrap(-boxes.yaw),
        velocity=boxes.velocity * _MIRROR_Y[:2],
    )


def jitter_colour(
    frame: Frame,
    jitter: ColourJitter,
    generator: torch.Generator,
    out: UInt8[np.ndarray, "v h w 3"] | None = None,
) -> Frame:
    """Change brightness and contrast of all cameras of the moment alike; `out` is as in `flip`."""
    shift, stretch = (2 * torch.rand(2, generator=generator) - 1).tolist()
    levels = np.arange(256, dtype=np.float32)
    table = (levels - 128) * (1 + jitter.contrast * stretch) + 128 + 255 * jitter.brightness * shift
    lookup = table.clip(0, 255).astype(np.uint8)
    images = _each(frame.images, lambda pixels, to: cv2.LUT(pixels, lookup, to), out)
    return replace(frame, images=images)


def _each(
    images: UInt8[Tensor, "v 3 h w"],
    change: Callable[[np.ndarray, np.ndarray], object],
    out: UInt8[np.ndarray, "v h w 3"] | None,
) -> UInt8[Tensor, "v 3 h w"]:
    """Images changed one by one, by a function of pixels and where it writes them."""
    pixels = channels_last(images)
    out = np.empty(pixels.shape, np.uint8) if out is None else out
    for source, target in zip(pixels, out, strict=True):
        change(source, target)
    return channels_first(out)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to a frame of the training split."""

    flip_probability: float = 0.5
    colour: ColourJitter | None = None
    max_zoom: float = 1.0
    """Largest `Window.zoom`; 1 is none."""

    def window(self, generator: torch.Generator) -> Window:
        """What of a frame's images is seen: any zoom up to the largest, anywhere."""
        if self.max_zoom == 1:
            return _WHOLE
        zoom, place = torch.rand(2, generator=generator).tolist()
        return Window(zoom=self.max_zoom**zoom, place=place)

    def __call__(
        self,
        frame: Frame,
        generator: torch.Generator,
        out: UInt8[np.ndarray, "v h w 3"] | None = None,
    ) -> Frame:
        """The changed frame; all randomness comes from the generator.

        Args:
            frame: Stays as it is.
            generator: Its next numbers decide.
            out: Where pixels go if they change; None is memory of their own.
        """
        if torch.rand((), generator=generator).item() < self.flip_probability:
            frame = flip(frame, out)
        if self.colour is not None:
            frame = jitter_colour(frame, self.colour, generator, out)
        return frame
