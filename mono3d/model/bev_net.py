"""Convolutions over bird's-eye-view maps: what cameras and LiDAR share once features lie on a grid.

Source: the backbone of SECOND and PointPillars (arXiv:1812.05784, section 2.2), as CaDDN and CMKD
have it: blocks of growing stride, each resized back, side by side. Group norm in place of batch
norm: maps of few frames a worker have no statistics worth keeping.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mono3d.model.heads import CHANNELS_PER_GROUP


def conv_block(
    in_channels: int, channels: int, *, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    """Convolution, group norm and ReLU."""
    conv = nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    norm = nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)
    return nn.Sequential(conv, norm, nn.ReLU(inplace=True))


class BevNet(nn.Module):
    """A map → a map of the same size that has seen its surroundings."""

    def __init__(self, in_channels: int, *, channels: Sequence[int], layers: int) -> None:
        """Build the blocks.

        Args:
            in_channels: Of the input.
            channels: Of each block; the first has stride 1, each further one twice the stride.
            layers: Convolutions in each block.
        """
        super().__init__()
        blocks, widths = [], [in_channels, *channels]
        for number, (before, own) in enumerate(zip(widths, channels, strict=False)):
            first = conv_block(before, own, stride=1 if number == 0 else 2)
            blocks.append(nn.Sequential(first, *(conv_block(own, own) for _ in range(layers - 1))))
        self.blocks = nn.ModuleList(blocks)
        self.resized = nn.ModuleList(conv_block(own, channels[0], kernel=1) for own in channels)
        self.out_channels = channels[0] * len(channels)

    def forward(self, bev: Float[Tensor, "b c y x"]) -> Float[Tensor, "b out y x"]:
        """All blocks' maps at the input's size."""
        found = []
        maps = bev
        for block, resize in zip(self.blocks, self.resized, strict=True):
            maps = block(maps)
            found.append(F.interpolate(resize(maps), size=bev.shape[-2:]))
        return torch.cat(found, dim=1)
