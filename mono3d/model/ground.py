"""Where the ground would be: the road's depth at every pixel, as input beside the image.

Objects stand on the ground, so the pixel under an object tells its depth once height and attitude
of the camera are known, and calibration knows them. Convolutions could learn the relation from
rows only for one camera; here it is given, for any.

Source: ours. The ground's depth as a prior is Ground-aware Monocular 3D Object Detection's (Liu et
al., RA-L 2021, arXiv:2102.00690), which has it deep in the network, for one camera height.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.points import level_size
from mono3d.geometry.camera import focal_px

GROUND_CHANNELS = 3
_TANGENT_SCALE = 3.0
"""Brings the tangents of viewing rays, up to 0.6, to the size of normalised colours."""
_MIN_FALL = 1e-6
"""Rays that fall less never meet the ground; the depth code ends long before."""


@dataclass(frozen=True, kw_only=True)
class GroundChannels:
    """Three channels from a camera's matrix and pose."""

    depth: LogDepthCodec
    """The depth code, in whose coordinate the network answers."""
    height_m: float
    """Of the ground, in the bev frame."""

    def __call__(
        self,
        projection: Float[Tensor, "n 3 4"],
        bev_from_cam: Float[Tensor, "n 4 4"],
        image_size: tuple[int, int],
        stride: int = 1,
    ) -> Float[Tensor, "n 3 h w"]:
        """Coded log depth of the ground, and how far each ray goes right and falls.

        The first is the code of the greatest depth at and above the horizon. The others are metres
        for each metre of depth, scaled: right in the camera frame, down in the bev frame.
        """
        height, width = level_size(image_size, stride)
        u = torch.arange(width, device=projection.device) * stride + stride // 2
        v = torch.arange(height, device=projection.device) * stride + stride // 2
        right = (u - projection[:, 0, 2, None]) / projection[:, 0, 0, None]
        down = (v - projection[:, 1, 2, None]) / projection[:, 1, 1, None]
        right, down = right[:, None, :], down[:, :, None]
        up_x, up_y, up_z, camera_height_m = bev_from_cam[:, 2, :, None, None].unbind(1)
        fall = -(up_x * right + up_y * down + up_z)
        depth_m = (camera_height_m - self.height_m) / fall.clamp(min=_MIN_FALL)
        code = self.depth.encode(depth_m, focal_px(projection)[:, None, None])
        tangents = [_TANGENT_SCALE * right.expand_as(fall), _TANGENT_SCALE * fall]
        return torch.stack([code, *tangents], dim=1)
