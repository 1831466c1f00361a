"""What calibration says about every pixel: its viewing ray, and where the ground would be.

A detector answers in camera coordinates for cameras of any focal length, height and attitude, so
it must be told them; a convolution of these channels is added to feature maps of their stride.

Objects stand on the ground, so the pixel under an object tells its depth once height and attitude
of the camera are known. Convolutions could learn the relation from rows only for one camera.

Source: ours. Rays as channels are CAM-Convs' (Facil et al., CVPR 2019, arXiv:1904.02028). The
ground's depth as a prior is Ground-aware Monocular 3D Object Detection's (Liu et al., RA-L 2021,
arXiv:2102.00690), which has it deep in the network, for one camera height.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.points import level_size
from mono3d.geometry.camera import focal_px

_TANGENT_SCALE = 3.0
"""Brings the tangents of viewing rays, up to 0.6, to unit size."""
_MIN_FALL = 1e-6
"""Rays that fall less never meet the ground; the depth code ends long before."""


class CameraChannels(Protocol):
    """Channels at the points of one stride, from camera matrices and poses."""

    count: ClassVar[int]

    def __call__(
        self,
        projection: Float[Tensor, "n 3 4"],
        bev_from_cam: Float[Tensor, "n 4 4"],
        image_size: tuple[int, int],
        stride: int,
    ) -> Float[Tensor, "n count h w"]:
        """Channels of n images of one size (height, width); stride 1 is every pixel."""
        ...


class RayChannels:
    """Two channels: metres that each ray goes right and down for each metre of depth."""

    count: ClassVar[int] = 2

    def __call__(
        self,
        projection: Float[Tensor, "n 3 4"],
        bev_from_cam: Float[Tensor, "n 4 4"],
        image_size: tuple[int, int],
        stride: int,
    ) -> Float[Tensor, "n 2 h w"]:
        """Both in the camera frame, whatever the pose."""
        right, down = _tangents(projection, image_size, stride)
        # projection.shape[0], not len(projection), which would fix the batch of an export.
        shape = (projection.shape[0], down.shape[1], right.shape[2])
        return torch.stack([right.expand(shape), down.expand(shape)], dim=1)


@dataclass(frozen=True, kw_only=True)
class GroundChannels:
    """Three channels: coded log depth of the ground, and how far each ray goes right and falls.

    The first is the code of the greatest depth at and above the horizon. The others are metres for
    each metre of depth, scaled: right in the camera frame, down in the bev frame.
    """

    count: ClassVar[int] = 3

    depth: LogDepthCodec
    """The depth code, in whose coordinate the network answers."""
    height_m: float
    """Of the ground, in the bev frame."""

    def __call__(
        self,
        projection: Float[Tensor, "n 3 4"],
        bev_from_cam: Float[Tensor, "n 4 4"],
        image_size: tuple[int, int],
        stride: int,
    ) -> Float[Tensor, "n 3 h w"]:
        """Channels of each camera where it stands."""
        right, down = _tangents(projection, image_size, stride)
        up_x, up_y, up_z, camera_height_m = bev_from_cam[:, 2, :, None, None].unbind(1)
        fall = -(up_x * right + up_y * down + up_z)
        depth_m = (camera_height_m - self.height_m) / fall.clamp(min=_MIN_FALL)
        code = self.depth.encode(depth_m, focal_px(projection)[:, None, None])
        tangents = [_TANGENT_SCALE * right.expand_as(fall), _TANGENT_SCALE * fall]
        return torch.stack([code, *tangents], dim=1)


def _tangents(
    projection: Float[Tensor, "n 3 4"], image_size: tuple[int, int], stride: int
) -> tuple[Float[Tensor, "n 1 w"], Float[Tensor, "n h 1"]]:
    """Of each point's ray in the camera frame: (u - cx) / fx by column, (v - cy) / fy by row."""
    height, width = level_size(image_size, stride)
    u = torch.arange(width, device=projection.device) * stride + stride // 2
    v = torch.arange(height, device=projection.device) * stride + stride // 2
    right = (u - projection[:, 0, 2, None]) / projection[:, 0, 0, None]
    down = (v - projection[:, 1, 2, None]) / projection[:, 1, 1, None]
    return right[:, None, :], down[:, :, None]
