"""Depth that labels alone tell of an image, for teachers where there is no LiDAR."""

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.structures import Boxes3D


def object_depth_map(
    boxes: Boxes3D, projection: Float[Tensor, "3 4"], image_size: tuple[int, int]
) -> Float[Tensor, "h w"]:
    """Each object's centre depth, painted into its 2D box; the nearest object is on top.

    Source: the abstract of ADD (arXiv:2211.16779) says that object-wise depth can stand in for
    dense depth; how it is painted is our reconstruction.

    Args:
        boxes: Of one camera, in its frame, without padding.
        projection: Of that camera.
        image_size: Height and width, pixels.

    Returns:
        Metres; 0 where no object is.
    """
    height, width = image_size
    corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
    hulls, is_seen = hull_2d(corners, projection, image_size)
    depth = torch.where(is_seen, boxes.centers[:, 2], torch.inf)[:, None, None]
    left, top, right, bottom = hulls[:, :, None].unbind(1)
    u, v = torch.arange(width), torch.arange(height)
    in_column, in_row = (u >= left) & (u <= right), (v >= top) & (v <= bottom)
    inside = in_row[:, :, None] & in_column[:, None, :]
    painted = torch.where(inside, depth, torch.inf)
    nearest = torch.cat([painted, painted.new_full((1, height, width), torch.inf)]).amin(0)
    return torch.where(nearest.isfinite(), nearest, 0.0)
