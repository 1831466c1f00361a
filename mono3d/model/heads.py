"""Convolution towers and one output convolution per predicted quantity, shared by all levels."""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

FOCAL_PRIOR = 0.01
"""Share of points that are objects before training; keeps the first focal losses small."""


def conv_tower(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    """`depth` times 3x3 convolution, group norm and ReLU."""
    layers: list[nn.Module] = []
    for i in range(depth):
        conv = nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=1, bias=False)
        layers += [conv, nn.GroupNorm(math.gcd(channels, 16), channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Branches(nn.Module):
    """Output convolutions by name; run on each level and flattened to [n, points, channels]."""

    def __init__(self, in_channels: int, out_channels: Mapping[str, int]) -> None:
        """One 1x1 convolution per name, small weights, zero bias."""
        super().__init__()
        self.convs = nn.ModuleDict()
        for name, count in out_channels.items():
            conv = nn.Conv2d(in_channels, count, 1)
            nn.init.normal_(conv.weight, std=0.01)
            self.convs[name] = conv
            self.set_bias(name, 0.0)

    def set_bias(self, name: str, value: float) -> None:
        """Start one branch at a constant."""
        nn.init.constant_(cast("Tensor", self.convs[name].bias), value)

    def forward(self, level: Tensor) -> dict[str, Tensor]:
        """Outputs of one level, points last but one."""
        return {name: conv(level).flatten(2).transpose(1, 2) for name, conv in self.convs.items()}


def join_levels(levels: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Outputs of all levels, one level after the other along the points."""
    return {name: torch.cat([level[name] for level in levels], dim=1) for name in levels[0]}
