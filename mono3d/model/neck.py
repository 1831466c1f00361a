"""Feature pyramid: every level sees both its own detail and the context of coarser ones.

Source: FPN (arXiv:1612.03144). Ours takes any set of input maps, so a plain transformer with one
map at stride 14 gets a pyramid too (compare ViTDet, arXiv:2203.16527): each level starts from the
input map nearest to its size, resized to it.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mono3d.codec.points import level_size


class FeaturePyramid(nn.Module):
    """Input maps of any stride → one map of `channels` for each wanted stride."""

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        *,
        strides: Sequence[int],
        channels: int,
    ) -> None:
        """Choose each level's source and make its lateral and output convolutions.

        Input maps coarser than every wanted level are levels of their own that only pass their
        context down, so no stage of the backbone is computed for nothing.
        """
        super().__init__()
        self.strides = tuple(strides)
        context = sorted({stride for stride in in_strides if stride > max(strides)})
        self._all_strides = (*self.strides, *context)
        self._sources = [_nearest(in_strides, stride) for stride in self._all_strides]
        self.lateral = nn.ModuleList(nn.Conv2d(in_channels[i], channels, 1) for i in self._sources)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in strides)

    def forward(self, maps: Sequence[Tensor], image_size: tuple[int, int]) -> list[Tensor]:
        """One map a wanted stride, finest first."""
        sizes = [level_size(image_size, stride) for stride in self._all_strides]
        levels = [
            _resize(conv(maps[i]), size)
            for conv, i, size in zip(self.lateral, self._sources, sizes, strict=True)
        ]
        for fine in reversed(range(len(levels) - 1)):
            levels[fine] = levels[fine] + F.interpolate(levels[fine + 1], size=sizes[fine])
        return [conv(level) for conv, level in zip(self.output, levels, strict=False)]


def _nearest(strides: Sequence[int], wanted: int) -> int:
    """Index of the stride with the ratio nearest to one; of equal ones the deepest map's."""
    deepest_first = reversed(range(len(strides)))
    return min(deepest_first, key=lambda i: max(strides[i], wanted) / min(strides[i], wanted))


def _resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
