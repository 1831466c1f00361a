"""The labelled objects of images, and the cells of feature maps that show them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mono3d.codec.box_frames import boxes_in_camera
from mono3d.codec.points import level_size
from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.geometry.camera import project
from mono3d.structures import Batch, Boxes3D, Frame


@dataclass(frozen=True, kw_only=True)
class TargetObjects:
    """Objects that are learnt; n images (frames x cameras), k padded slots."""

    box_px: Float[Tensor, "n k 4"]
    """Left, top, right and bottom of what of them lies in the image."""
    center_px: Float[Tensor, "n k 2"]
    """Projected 3D centre, which may lie outside the image."""
    depth_m: Float[Tensor, "n k"]
    labels: Int64[Tensor, "n k"]
    valid: Bool[Tensor, "n k"]


def boxes_in_image(boxes: Boxes3D, frame: Frame, camera: int) -> tuple[Boxes3D, Bool[Tensor, " k"]]:
    """Boxes of the bev frame in that of a frame's camera, and which of them meet its image."""
    there = boxes_in_camera(boxes, frame.bev_from_cam[camera])
    corners = corners_cam(there.centers, there.dims_hwl, there.yaw)
    size = (frame.images.shape[-2], frame.images.shape[-1])
    return there, hull_2d(corners, frame.projection[camera], size)[1]


def target_objects(batch: Batch, is_learnt: Callable[[Boxes3D], Tensor]) -> TargetObjects:
    """The objects of a batch that are in an image, and that its detector learns.

    Args:
        batch: With labels.
        is_learnt: Which objects of a camera's frame are.
    """
    boxes = batch.boxes_cam
    image_size = (batch.images.shape[-2], batch.images.shape[-1])
    projection = batch.projection[:, :, None]
    corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
    box_px, in_image = hull_2d(corners, projection, image_size)
    valid = is_learnt(boxes) & in_image
    return TargetObjects(
        box_px=torch.where(valid[..., None], box_px, 0.0).flatten(0, 1),
        center_px=project(boxes.centers, projection).flatten(0, 1),
        depth_m=boxes.centers[..., 2].flatten(0, 1),
        labels=boxes.labels.flatten(0, 1),
        valid=valid.flatten(0, 1),
    )


def cells_inside(
    targets: TargetObjects, image_size: tuple[int, int], stride: int
) -> Bool[Tensor, "n k cells"]:
    """Which cells of a map lie in each object's 2D box; none of a slot that is not valid.

    A box narrower or lower than a cell reaches for the nearest one.
    """
    height, width = level_size(image_size, stride)
    left, top, right, bottom = targets.box_px[..., None].unbind(-2)
    in_row = _inside(top, bottom, height, stride) & targets.valid[..., None]
    in_column = _inside(left, right, width, stride)
    return (in_row[..., None] & in_column[..., None, :]).flatten(2)


def nearest_objects(
    targets: TargetObjects, image_size: tuple[int, int], stride: int
) -> tuple[Int64[Tensor, "n cells"], Bool[Tensor, "n cells"]]:
    """Slot of the nearest object in whose 2D box each cell lies, and whether it lies in one."""
    inside = cells_inside(targets, image_size, stride)
    depth_m, slot = torch.where(inside, targets.depth_m[..., None], torch.inf).min(1)
    return slot, depth_m < torch.inf


def _inside(
    low: Float[Tensor, "n k 1"], high: Float[Tensor, "n k 1"], count: int, stride: int
) -> Tensor:
    """Which of the points along one axis are between two edges, at least one for each object."""
    points = torch.arange(count, device=low.device) * stride + stride // 2
    middle = (low + high) / 2
    low = torch.minimum(low, middle - stride / 2).clamp(
        max=float((count - 1) * stride + stride // 2)
    )
    high = torch.maximum(high, middle + stride / 2).clamp(min=float(stride // 2))
    return (points >= low) & (points <= high)
