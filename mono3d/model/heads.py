"""Convolution towers and one output convolution per predicted quantity, shared by all levels."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

CHANNELS_PER_GROUP = 8
"""Of group norm, as in FCOS (32 groups of 256); `channels` must be a multiple."""
FOCAL_PRIOR = 0.01
"""Share of points that are objects before training; keeps the first focal losses small."""
CLASS_OUTPUTS = frozenset({"class_logits"})
"""Outputs of branches that have one channel for each class of the run, in its order."""

CLASS_MIXED_OUTPUTS = frozenset({"anchor_classes", "anchor_residuals", "anchor_directions"})
"""Outputs of branches whose channels belong to anchors of all classes, in the order of the run."""

SELECTION_OUTPUTS: Mapping[str, int] = {"selection_logits": 1}
"""What learnt selection needs of a head: name → channels."""


def conv_tower(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    """`depth` times 3x3 convolution, group norm and ReLU."""
    layers: list[nn.Module] = []
    for i in range(depth):
        conv = nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=1, bias=False)
        norm = nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)
        layers += [conv, norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Branches(nn.Module):
    """Named outputs of one convolution, flattened to [n, points, channels]."""

    def __init__(self, in_channels: int, out_channels: Mapping[str, int]) -> None:
        """One 1x1 convolution for all names, small weights, zero bias."""
        super().__init__()
        self.out_channels: Mapping[str, int] = dict(out_channels)
        """Name → channels, in the order of the convolution's."""
        self.conv = nn.Conv2d(in_channels, sum(out_channels.values()), 1)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(cast("Tensor", self.conv.bias))

    @torch.no_grad()
    def set_bias(self, name: str, value: float) -> None:
        """Start one branch at a constant."""
        names = list(self.out_channels)
        biases = cast("Tensor", self.conv.bias).split(list(self.out_channels.values()))
        biases[names.index(name)].fill_(value)

    def gradient_norm(self, name: str) -> Float[Tensor, ""]:
        """Norm of the gradient of one output's weights and bias; 0 before the first backward."""
        index = list(self.out_channels).index(name)
        parts = [
            p.grad.split(list(self.out_channels.values()))[index].flatten()
            for p in self.conv.parameters()
            if p.grad is not None
        ]
        return torch.cat(parts).norm() if parts else self.conv.weight.new_zeros(())

    def forward(self, level: Tensor) -> dict[str, Tensor]:
        """Outputs of one level, points last but one."""
        outputs = self.conv(level).flatten(2).transpose(1, 2)
        parts = outputs.split(list(self.out_channels.values()), dim=-1)
        return dict(zip(self.out_channels, parts, strict=True))


def output_rows(network: nn.Module) -> dict[str, dict[str, int]]:
    """Which rows (first axis) of a network's tensors belong to which output of its branches.

    Returns:
        Name in the state dict → output → number of its rows; outputs in the order of their rows.
    """
    return {
        f"{path}.conv.{name}": dict(module.out_channels)
        for path, module in network.named_modules()
        if isinstance(module, Branches)
        for name, _ in module.conv.named_parameters()
    }


def join_levels(levels: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Outputs of all levels, one level after the other along the points."""
    return {name: torch.cat([level[name] for level in levels], dim=1) for name in levels[0]}
