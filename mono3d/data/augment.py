"""Geometry and colour changes of frames: image, projection, boxes and points change together."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

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
    images = torch.stack([_fit(image, image_size, resized, left) for image in frame.images])
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
    return replace(frame, images=images, projection=projection, boxes_cam=boxes_cam)


def _in_view(boxes: Boxes3D, projection: Tensor, image_size: tuple[int, int]) -> Boxes3D:
    corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
    return boxes.select(hull_2d(corners, projection, image_size)[1])


def _fit(
    image: UInt8[Tensor, "3 h w"], size: tuple[int, int], resized: tuple[int, int], left: int
) -> Tensor:
    array = image.permute(1, 2, 0).numpy()
    if array.shape[:2] != resized:
        array = cv2.resize(array, resized[::-1], interpolation=cv2.INTER_AREA)
    array = array[-size[0] :, left : left + size[1]]
    if len(array) < size[0]:
        array = np.pad(array, ((0, size[0] - len(array)), (0, 0), (0, 0)))
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)


def flip(frame: Frame) -> Frame:
    """The mirrored moment: left and right are swapped in images, boxes and points."""
    projection, bev_from_cam = mirrored_camera(
        frame.projection, frame.bev_from_cam, frame.images.shape[-1]
    )
    return replace(
        frame,
        images=frame.images.flip(-1),
        projection=projection,
        bev_from_cam=bev_from_cam,
        boxes_cam=None if frame.boxes_cam is None else tuple(map(_mirror_cam, frame.boxes_cam)),
        boxes_bev=None if frame.boxes_bev is None else _mirror_bev(frame.boxes_bev),
        points=None
        if frame.points is None
        else frame.points * frame.points.new_tensor([1, -1, 1, 1]),
    )


def _mirror_cam(boxes: Boxes3D) -> Boxes3D:
    return replace(
        boxes,
        centers=boxes.centers * boxes.centers.new_tensor([-1, 1, 1]),
        yaw=wrap(torch.pi - boxes.yaw),
        velocity=boxes.velocity * boxes.velocity.new_tensor([-1, 1]),
    )


def _mirror_bev(boxes: Boxes3D) -> Boxes3D:
    return replace(
        boxes,
        centers=boxes.centers * boxes.centers.new_tensor([1, -1, 1]),
        yaw=wrap(-boxes.yaw),
        velocity=boxes.velocity * boxes.velocity.new_tensor([1, -1]),
    )


def jitter_colour(frame: Frame, jitter: ColourJitter, generator: torch.Generator) -> Frame:
    """Change brightness and contrast of all cameras of the moment alike."""
    shift, stretch = (2 * torch.rand(2, generator=generator) - 1).tolist()
    levels = np.arange(256, dtype=np.float32)
    table = (levels - 128) * (1 + jitter.contrast * stretch) + 128 + 255 * jitter.brightness * shift
    lookup = table.clip(0, 255).astype(np.uint8)
    return replace(frame, images=torch.from_numpy(lookup[frame.images.numpy()]))


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

    def __call__(self, frame: Frame, generator: torch.Generator) -> Frame:
        """The changed frame; all randomness comes from the generator."""
        if torch.rand((), generator=generator).item() < self.flip_probability:
            frame = flip(frame)
        if self.colour is not None:
            frame = jitter_colour(frame, self.colour, generator)
        return frame
