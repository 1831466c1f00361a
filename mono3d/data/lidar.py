"""LiDAR points as a camera sees them."""

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.geometry.camera import MIN_DEPTH_M


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
    u, v, depth, seen = _seen(points, bev_from_cam, projection, image_size)
    cells = (v[seen] * width + u[seen]).long()
    flat = torch.full((height * width,), torch.inf).scatter_reduce(0, cells, depth[seen], "amin")
    return torch.where(flat.isfinite(), flat, 0.0).view(height, width)


def points_in_view(
    points: Float[Tensor, "n 4"],
    bev_from_cam: Float[Tensor, "v 4 4"],
    projection: Float[Tensor, "v 3 4"],
    image_size: tuple[int, int],
) -> Float[Tensor, "m 4"]:
    """Points that lie in the image of one of the cameras, in their order.

    KITTI labels what its camera sees, and no more: a LiDAR detector that saw all around would be
    taught that nothing is there.
    """
    cameras = zip(bev_from_cam, projection, strict=True)
    seen = [_seen(points, pose, p, image_size)[3] for pose, p in cameras]
    return points[torch.stack(seen).any(0)]


def _seen(
    points: Float[Tensor, "n 4"],
    bev_from_cam: Float[Tensor, "4 4"],
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nearest column and row of each point, its depth, and whether it lies in the image."""
    height, width = image_size
    # One product takes all points to homogeneous pixels, whose third row is depth plus an offset.
    pixels_from_bev = projection @ torch.linalg.inv(bev_from_cam)
    uvw = torch.addmm(pixels_from_bev[:, 3:], pixels_from_bev[:, :3], points[:, :3].T)
    depth = uvw[2] - projection[2, 3]
    u, v = (uvw[:2] / uvw[2]).round()
    seen = (depth > MIN_DEPTH_M) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    return u, v, depth, seen
