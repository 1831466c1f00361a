"""MonoTAKD's modules of the student: what learns the residual of a LiDAR network, and joins it.

Source: Liu et al., "MonoTAKD: Teaching Assistant Knowledge Distillation for Monocular 3D Object
Detection", CVPR 2025 (arXiv:2404.04910), figures of SAM and FFM: atrous pyramid, deformable
convolution, norm and ReLU, added to squeeze-and-excitation of the input; then a sum with the visual
stream and two convolutions. The authors' public code differs (one deformable convolution used
twice, four convolutions more); we follow the paper. Ours: group norm, and deformable convolution by
bilinear sampling, so that no compiled operator is needed. Both run when the student infers.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mono3d.model.bev_net import conv_block
from mono3d.model.heads import CHANNELS_PER_GROUP

_RATES = (6, 12)
"""Of the dilated convolutions, beside a 1x1 convolution and the mean of the map."""
_REDUCTION = 16
_TAPS = 3
"""To a side of the deformable convolution."""


class AtrousPyramid(nn.Module):
    """Each cell with its surroundings at several distances (ASPP)."""

    def __init__(self, channels: int) -> None:
        """Four branches of half the channels each, joined."""
        super().__init__()
        half = channels // 2
        self.near = conv_block(channels, half, kernel=1)
        self.far = nn.ModuleList(_dilated(channels, half, rate) for rate in _RATES)
        self.whole = nn.Sequential(nn.Conv2d(channels, half, 1), nn.ReLU(inplace=True))
        self.join = conv_block(half * (2 + len(_RATES)), channels, kernel=1)

    def forward(self, bev: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """A map of the same shape."""
        whole = self.whole(bev.mean((2, 3), keepdim=True)).expand(-1, -1, *bev.shape[-2:])
        branches = [self.near(bev), *(far(bev) for far in self.far), whole]
        found: Tensor = self.join(torch.cat(branches, dim=1))
        return found


def _dilated(in_channels: int, channels: int, rate: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, 3, padding=rate, dilation=rate, bias=False)
    norm = nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)
    return nn.Sequential(conv, norm, nn.ReLU(inplace=True))


class DeformableConv(nn.Module):
    """A 3x3 convolution whose taps move, by offsets that a convolution says; first by none.

    Source: Dai et al., Deformable Convolutional Networks (arXiv:1703.06211), section 2.1.
    """

    def __init__(self, channels: int) -> None:
        """Offsets start at zero: an ordinary convolution."""
        super().__init__()
        self.offsets = nn.Conv2d(channels, 2 * _TAPS * _TAPS, 3, padding=1)
        nn.init.zeros_(self.offsets.weight)
        assert self.offsets.bias is not None
        nn.init.zeros_(self.offsets.bias)
        self.weight = nn.Conv2d(channels, channels, _TAPS, bias=False).weight

    def forward(self, bev: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """A map of the same shape; taps outside of the map are zero."""
        rows, columns = bev.shape[-2:]
        bev = bev.float()
        moved = self.offsets(bev).float().unflatten(1, (_TAPS * _TAPS, 2))
        row, column = torch.meshgrid(
            torch.arange(rows, device=bev.device), torch.arange(columns, device=bev.device),
            indexing="ij",
        )  # fmt: skip
        total = bev.new_zeros(())
        for tap in range(_TAPS * _TAPS):
            down, right = divmod(tap, _TAPS)
            x = column + right - 1 + moved[:, tap, 0]
            y = row + down - 1 + moved[:, tap, 1]
            where = torch.stack(
                [2 * x / max(columns - 1, 1) - 1, 2 * y / max(rows - 1, 1) - 1], dim=-1
            )
            with torch.autocast(bev.device.type, enabled=False):
                found = F.grid_sample(bev, where, align_corners=True)
            total = total + F.conv2d(found, self.weight[:, :, down, right, None, None])
        return total


class SpatialAlignment(nn.Module):
    """SAM: the spatial stream → what should be the residual between LiDAR and assistant."""

    def __init__(self, channels: int) -> None:
        """Build both paths; `channels` must be a multiple of 16."""
        super().__init__()
        self.pyramid = AtrousPyramid(channels)
        self.deformed = DeformableConv(channels)
        self.norm = nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)
        narrow = max(channels // _REDUCTION, 4)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, narrow, 1), nn.ReLU(inplace=True), nn.Conv2d(narrow, channels, 1)
        )

    def forward(self, bev: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """A map of the same shape."""
        aligned = self.norm(self.deformed(self.pyramid(bev))).relu()
        gate = self.gate(bev.mean((2, 3), keepdim=True)).sigmoid()
        found: Tensor = aligned + bev * gate
        return found


class FeatureFusion(nn.Module):
    """FFM: the visual stream and the aligned one → the map that the grid network reads."""

    def __init__(self, channels: int) -> None:
        """Two convolutions."""
        super().__init__()
        self.layers = nn.Sequential(conv_block(channels, channels), conv_block(channels, channels))

    def forward(
        self, visual: Float[Tensor, "b c y x"], residual: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b c y x"]:
        """A map of the same shape."""
        found: Tensor = self.layers(visual + residual)
        return found


class ResidualStream(nn.Module):
    """A second collapse of the lifted voxels, SAM and FFM."""

    def __init__(self, in_channels: int, channels: int) -> None:
        """Build the parts.

        Args:
            in_channels: Of all heights of a cell.
            channels: Of the maps on the grid.
        """
        super().__init__()
        self.collapse = conv_block(in_channels, channels, kernel=1)
        self.alignment = SpatialAlignment(channels)
        self.fusion = FeatureFusion(channels)

    def forward(
        self, voxels: Float[Tensor, "b stacked y x"], visual: Float[Tensor, "b c y x"]
    ) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b c y x"]]:
        """The aligned residual, and both streams as one."""
        residual = self.alignment(self.collapse(voxels))
        return residual, self.fusion(visual, residual)
