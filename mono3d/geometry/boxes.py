"""Corners and hulls of 3D boxes, and boxes from one coordinate frame in the other.

A yaw-only box stays yaw-only when the frame changes: its forward axis is rotated and projected on
the new ground plane. For cameras pitched by a few degrees the error is second order.
"""

from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mono3d.geometry.camera import MIN_DEPTH_M, project

# Corner signs forward, down and to the right: bottom face first, its front right corner first.
_CORNER_SIGNS = (
    (1, 1, 1), (1, 1, -1), (-1, 1, -1), (-1, 1, 1),
    (1, -1, 1), (1, -1, -1), (-1, -1, -1), (-1, -1, 1),
)  # fmt: skip
BOX_EDGES = (
    (0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7),
)  # fmt: skip
"""Pairs of corners that make the twelve edges, for hulls and drawings."""
FRONT_FACE = (0, 1, 5, 4)
"""Corners of the face that looks along the heading, in order around it."""


@lru_cache
def _corner_signs(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "8 3"]:
    """Half of them, copied to a device once: a copy makes the host wait."""
    return torch.tensor(_CORNER_SIGNS, dtype=dtype, device=device) / 2


@lru_cache
def _box_edges(device: torch.device) -> Int64[Tensor, "12 2"]:
    """`BOX_EDGES`, copied to a device once."""
    return torch.tensor(BOX_EDGES, device=device)


def forward_cam(yaw: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3"]:
    """Unit vector of the heading in the camera frame."""
    return torch.stack([yaw.cos(), torch.zeros_like(yaw), -yaw.sin()], dim=-1)


def forward_bev(yaw: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3"]:
    """Unit vector of the heading in the bev frame."""
    return torch.stack([yaw.cos(), yaw.sin(), torch.zeros_like(yaw)], dim=-1)


def corners_cam(
    centers: Float[Tensor, "*n 3"], dims_hwl: Float[Tensor, "*n 3"], yaw: Float[Tensor, "*n"]
) -> Float[Tensor, "*n 8 3"]:
    """The eight corners of camera-frame boxes, bottom face first, front right corner first."""
    signs = _corner_signs(centers.dtype, centers.device)
    along, down, across = (signs * dims_hwl[..., None, [2, 0, 1]]).unbind(-1)
    cos, sin = yaw.cos()[..., None], yaw.sin()[..., None]
    local = torch.stack([along * cos - across * sin, down, -along * sin - across * cos], dim=-1)
    return centers[..., None, :] + local


def corners_bev(
    centers: Float[Tensor, "*n 3"], dims_hwl: Float[Tensor, "*n 3"], yaw: Float[Tensor, "*n"]
) -> Float[Tensor, "*n 8 3"]:
    """The eight corners of bev-frame boxes, in the order of `corners_cam` (bottom face first)."""
    signs = _corner_signs(centers.dtype, centers.device)
    along, down, across = (signs * dims_hwl[..., None, [2, 0, 1]]).unbind(-1)
    cos, sin = yaw.cos()[..., None], yaw.sin()[..., None]
    local = torch.stack([along * cos + across * sin, along * sin - across * cos, -down], dim=-1)
    return centers[..., None, :] + local


def cut_at_camera_plane(
    segments: Float[Tensor, "*n 2 3"],
) -> tuple[Float[Tensor, "*n 2 3"], Bool[Tensor, "*n"]]:
    """The parts of straight segments that lie before the camera, beyond z = MIN_DEPTH_M.

    Args:
        segments: Both ends, in the camera frame.

    Returns:
        The segments, an end behind the plane moved along its segment on to the plane, and which of
        them have a part before the camera; the ends of the others are as they were.
    """
    depth = segments[..., 2:]
    toward, other_depth = segments.flip(-2) - segments, depth.flip(-2)
    cut = segments + toward * (MIN_DEPTH_M - depth) / toward[..., 2:]
    crosses = (depth < MIN_DEPTH_M) & (other_depth >= MIN_DEPTH_M)
    return torch.where(crosses, cut, segments), (depth >= MIN_DEPTH_M).any(-2)[..., 0]


def hull_2d(
    corners: Float[Tensor, "*n 8 3"],
    projection: Float[Tensor, "*#n 3 4"],
    image_size: tuple[int, int],
) -> tuple[Float[Tensor, "*n 4"], Bool[Tensor, "*n"]]:
    """Image box (left, top, right, bottom) of what of a cuboid lies before the camera.

    Edges are cut at the camera plane, so a box that crosses it gets the hull of its front part.

    Args:
        corners: From `corners_cam`.
        projection: Of the same camera.
        image_size: Height and width in pixels; the hull is clipped to it.

    Returns:
        The clipped hull, and whether any of it lies inside the image; without that, the hull is
        empty (right <= left or bottom <= top).
    """
    height, width = image_size
    edges = corners[..., _box_edges(corners.device), :]
    edges, in_front = cut_at_camera_plane(edges)
    pixels = project(edges, projection[..., None, None, :, :])
    in_front = in_front[..., None, None]
    low = torch.where(in_front, pixels, torch.inf).flatten(-3, -2).amin(-2)
    high = torch.where(in_front, pixels, -torch.inf).flatten(-3, -2).amax(-2)
    limit = corners.new_tensor([width, height])
    low, high = low.clamp(min=0).minimum(limit), high.minimum(limit).clamp(min=0)
    return torch.cat([low, high], dim=-1), (high > low).all(-1)


def yaw_bev_from_cam(
    yaw: Float[Tensor, "*n"], bev_from_cam: Float[Tensor, "*#n 4 4"]
) -> Float[Tensor, "*n"]:
    """Heading in the bev frame of boxes whose heading is known in the camera frame."""
    forward = (bev_from_cam[..., :3, :3] @ forward_cam(yaw)[..., None])[..., 0]
    return torch.atan2(forward[..., 1], forward[..., 0])


def yaw_cam_from_bev(
    yaw: Float[Tensor, "*n"], cam_from_bev: Float[Tensor, "*#n 4 4"]
) -> Float[Tensor, "*n"]:
    """Heading in the camera frame (rotation_y) of boxes whose heading is known in the bev frame."""
    forward = (cam_from_bev[..., :3, :3] @ forward_bev(yaw)[..., None])[..., 0]
    return torch.atan2(-forward[..., 2], forward[..., 0])
