"""Detections in the columns of a KITTI result."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mono3d.geometry.angles import alpha_from_yaw
from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.structures import Detections


def result_columns(
    detections: Detections, projection: Float[Tensor, "3 4"], image_size: tuple[int, int]
) -> tuple[Float[Tensor, "n 12"], Bool[Tensor, " n"]]:
    """What KITTI writes between a detection's truncation and occlusion, and its score.

    Args:
        detections: In the rectified camera frame.
        projection: P2.
        image_size: Height and width in pixels.

    Returns:
        Alpha, the rectangle (left, top, right, bottom: hull of the projected box inside the image),
        height, width, length, the centre of the bottom face, rotation_y; and whether there is a
        rectangle: detections without one are no result.
    """
    boxes = detections.boxes
    corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
    hulls, is_seen = hull_2d(corners, projection, image_size)
    bottoms = boxes.centers + boxes.dims_hwl[:, :1] / 2 * boxes.centers.new_tensor([0.0, 1.0, 0.0])
    alpha = alpha_from_yaw(boxes.yaw, boxes.centers)
    columns = [alpha[:, None], hulls, boxes.dims_hwl, bottoms, boxes.yaw[:, None]]
    return torch.cat(columns, dim=1), is_seen
