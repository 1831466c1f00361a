"""Boxes from the bev frame to a camera's, and back."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.geometry.boxes import yaw_bev_from_cam, yaw_cam_from_bev
from mono3d.geometry.camera import transform_points
from mono3d.structures import Boxes3D

_GROUND_CAM = (0, 2)
"""Axes of the camera frame along which velocity is given."""


def boxes_in_camera(boxes: Boxes3D, bev_from_cam: Float[Tensor, "4 4"]) -> Boxes3D:
    """Boxes [n] of the bev frame in the frame of a camera at a pose."""
    cam_from_bev = torch.linalg.inv(bev_from_cam)
    speed = torch.cat([boxes.velocity, torch.zeros_like(boxes.velocity[..., :1])], dim=-1)
    return replace(
        boxes,
        centers=transform_points(boxes.centers, cam_from_bev),
        yaw=yaw_cam_from_bev(boxes.yaw, cam_from_bev),
        velocity=(speed @ cam_from_bev[:3, :3].mT)[..., _GROUND_CAM],
    )


def boxes_in_bev(boxes: Boxes3D, bev_from_cam: Float[Tensor, "4 4"]) -> Boxes3D:
    """Boxes [n] of the frame of a camera at a pose in the bev frame."""
    right, ahead = boxes.velocity.unbind(-1)
    speed = torch.stack([right, torch.zeros_like(right), ahead], dim=-1)
    return replace(
        boxes,
        centers=transform_points(boxes.centers, bev_from_cam),
        yaw=yaw_bev_from_cam(boxes.yaw, bev_from_cam),
        velocity=(speed @ bev_from_cam[:3, :3].mT)[..., :2],
    )
