"""Self-calibrated blocks: what brings an image's map on the grid nearer to a LiDAR network's.

Source: CMKD (arXiv:2211.07171) and its public code: bottlenecks with self-calibrated convolutions
(Liu et al., CVPR 2020) between lift and backbone. Half of the channels see their surroundings
through a gate, the other half do not. Group norm in place of batch norm, as everywhere on the grid.
They are part of the student, and run when it infers.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mono3d.model.bev_net import conv_block
from mono3d.model.heads import CHANNELS_PER_GROUP

_POOL = 4
"""Cells to a side of what the gate looks at."""


class SelfCalibratedBlock(nn.Module):
    """A map → a map of the same shape."""

    def __init__(self, channels: int) -> None:
        """Build both branches; `channels` must be a multiple of 16."""
        super().__init__()
        half = channels // 2
        self.plain = nn.Sequential(conv_block(channels, half, kernel=1), conv_block(half, half))
        self.narrow = conv_block(channels, half, kernel=1)
        self.surroundings = _conv_norm(half)
        self.values = _conv_norm(half)
        self.gated = conv_block(half, half)
        self.join = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels),
        )

    def forward(self, bev: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """Both branches, side by side, on top of what came in."""
        narrow = self.narrow(bev)
        around = self.surroundings(F.avg_pool2d(narrow, _POOL, ceil_mode=True))
        gate = (narrow + F.interpolate(around, size=narrow.shape[-2:])).sigmoid()
        gated = self.gated(self.values(narrow) * gate)
        both: Tensor = self.join(torch.cat([self.plain(bev), gated], dim=1))
        return (bev + both).relu()


def _conv_norm(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels))
