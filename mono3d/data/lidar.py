"""LiDAR points as a camera sees them."""

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.geometry.camera import MIN_DEPTH_M, project, transform_points


def depth_map(
    points: Float[Tensor, "n 4"],
    bev_from_cam: Float[Tensor, "4 4"],
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
) -> Float[Tensor, "h w"]:
    """Depth (camera z, metres) of the nearest point in each pixel; 0 where there is none.

    Args:
        points: x, y, z in the bev frame and intensity.
        bev_from_cam: Pose of the camera.
        projection: Camera coordinates to pixels of the image.
        image_size: Height and width, pixels.
    """
    height, width = image_size
    points_cam = transform_points(points[:, :3], torch.linalg.inv(bev_from_cam))
    points_cam = points_cam[points_cam[:, 2] > MIN_DEPTH_M]  # half of them, before the divisions
    u, v = project(points_cam, projection).round().long().unbind(-1)
    depth = points_cam[:, 2]
    seen = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    flat = torch.full((height * width,), torch.inf)
    flat = flat.scatter_reduce(0, (v * width + u)[seen], depth[seen], "amin")
    return torch.where(flat.isfinite(), flat, 0.0).view(height, width)
