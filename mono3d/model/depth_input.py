"""True depth as an input: what makes a detector a teacher of itself.

Source: ADD (arXiv:2211.16779), abstract: the teacher has the student's architecture and takes true
depth as an additional input. Where it enters is our reconstruction: a small branch whose output is
added to every level of the neck, and which starts at zero, so that training starts from the camera
model. It reads depth in the coordinate in which the heads answer: for a head to say what it is told
is then an affine map, at any focal length.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mono3d.codec.depth import LogDepthCodec

_HIDDEN = 32
_INPUTS = 2
"""Coded depth, and whether it is known."""


class DepthInput(nn.Module):
    """A map of true depth → what each level of a neck is told of it."""

    def __init__(self, depth: LogDepthCodec, *, channels: int) -> None:
        """Two convolutions, shared by all levels.

        Args:
            depth: The depth code of the heads.
            channels: Of the levels.
        """
        super().__init__()
        self._depth = depth
        self.hidden = nn.Conv2d(_INPUTS, _HIDDEN, 3, padding=1)
        self.output = nn.Conv2d(_HIDDEN, channels, 3, padding=1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(cast("Tensor", self.output.bias))

    def forward(
        self,
        depth_m: Float[Tensor, "n 1 h w"],
        focal_px: Float[Tensor, " n"],
        strides: Sequence[int],
    ) -> list[Float[Tensor, "n channels _ _"]]:
        """What is added to the level of each stride.

        Args:
            depth_m: True depth of each pixel, metres, 0 where unknown.
            focal_px: Of each image's camera.
            strides: Of the levels.
        """
        known = (depth_m > 0).float()
        code = self._depth.encode(depth_m, focal_px[:, None, None, None]) * known
        told = torch.cat([code, known], dim=1)
        return [self._level(told, stride) for stride in strides]

    def _level(self, told: Float[Tensor, "n 2 h w"], stride: int) -> Tensor:
        """Of each cell the mean over its known pixels."""
        code, share = F.avg_pool2d(told, stride, ceil_mode=True).split(1, dim=1)
        is_known = share > 0
        cells = torch.cat([code / torch.where(is_known, share, 1.0), is_known.float()], dim=1)
        found: Tensor = self.output(self.hidden(cells).relu())
        return found
