"""The bird's-eye-view detector: image features lifted by a distribution over depth, then a grid.

Source: CaDDN (arXiv:2103.01100): features times categorical depth, sampled at voxels, collapsed in
height, a bird's-eye-view backbone and an anchor head. BEVDepth (arXiv:2206.10092) for several
cameras on one grid, depth that knows its camera and a centre head. Ours: any backbone with the
pyramid of the other detectors at one stride, the lean lift (`lift.py`), group norm.

With true depth in its input the distribution is that depth's in every cell that has some, and
everything else as it is: MonoTAKD's assistant (arXiv:2404.04910) and ADD's teacher
(arXiv:2211.16779; how depth enters a detector that lifts is our reconstruction). MonoTAKD's code
takes the mean depth of a cell, one-hot; a cell at the edge of an object then has a depth where
nothing is, so ours has the share of its pixels in each bin.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.bev_codec import ASSISTANT, BEV, LIFTED, RESIDUAL, VISUAL
from mono3d.codec.bev_grid import BevGrid
from mono3d.codec.points import level_size
from mono3d.errors import DataError
from mono3d.model.bev_heads import AnchorHead, BevCenterHead
from mono3d.model.bev_net import BevNet, conv_block
from mono3d.model.depth_distribution import DepthDistribution
from mono3d.model.lift import Sights, find_sights, lean_lift
from mono3d.model.spatial_alignment import ResidualStream
from mono3d.model.trunk import Trunk
from mono3d.structures import Inputs, Predictions

DepthUse = Literal["none", "lift", "assist"]


class BevDetector(nn.Module):
    """Images and cameras → responses on the grid of their moment, and of depth in the images."""

    voxels: Tensor

    def __init__(
        self,
        *,
        trunk: Trunk,
        depth: DepthDistribution,
        grid: BevGrid,
        lifted_channels: int,
        bev_net: BevNet,
        head: AnchorHead | BevCenterHead,
        depth_use: DepthUse = "none",
        adaptation: nn.Module | None = None,
    ) -> None:
        """Join the parts.

        Args:
            trunk: Yields one level.
            depth: Distribution over depth at its cells.
            grid: In space.
            lifted_channels: Of the map on the grid, once heights are collapsed.
            bev_net: Reads that map.
            head: Answers on the grid.
            depth_use: What is done with true depth: `lift` lifts by it alone, and needs it;
                `assist` lifts by it too, where it is there.
            adaptation: Between lift and grid network, for students of LiDAR networks: blocks, or a
                `ResidualStream`.
        """
        super().__init__()
        (self.stride,) = trunk.strides
        self.trunk = trunk
        self.depth = depth
        self.collapse = conv_block(trunk.channels * grid.num_heights, lifted_channels, kernel=1)
        self.adaptation = adaptation or nn.Identity()
        self.bev_net = bev_net
        self.head = head
        self._grid = grid
        self._depth_use = depth_use
        self.register_buffer("voxels", grid.voxel_centers().flatten(0, 2), persistent=False)
        stacked = trunk.channels * grid.num_heights
        streams = (VISUAL, RESIDUAL) if isinstance(adaptation, ResidualStream) else ()
        self.features: Mapping[str, tuple[int, int]] = {
            **trunk.features,
            **dict.fromkeys((*streams, LIFTED), (lifted_channels, 1)),
            BEV: (bev_net.out_channels, 1),
            **({ASSISTANT: (stacked, 1)} if depth_use == "assist" else {}),
        }
        """Name → (channels, stride) of its feature maps: pixels in images, cells on the grid."""
        self.responses: Mapping[str, int] = dict(head.responses)
        """Name → channels of what is said at each place of the grid."""
        self.told_features = (LIFTED,)
        """Names of the maps that first know true depth, where it is read."""

    def forward(self, inputs: Inputs) -> Predictions:
        """Responses [b, places, channels] and maps [b, c, y, x] of frames.

        Of images (n = frames x cameras) are `depth_logits` [n, bins + 1, h, w], `depth_m` [n,
        cells], and the trunk's maps.
        """
        found = self.trunk(inputs)
        (level,) = found.levels
        image_size = (inputs.images.shape[-2], inputs.images.shape[-1])
        projection, pose = inputs.projection.flatten(0, 1), inputs.bev_from_cam.flatten(0, 1)
        logits = self.depth(level, projection, pose, image_size)
        said, sights = _shares(logits), self._sights(inputs, image_size)
        told = self._told(inputs, said)
        lifts_by_truth = self._depth_use == "lift"
        distribution = told if lifts_by_truth and told is not None else said
        maps = self._on_grid(self._lift(level, distribution, sights))
        if told is not None and not lifts_by_truth:
            maps[ASSISTANT] = self._lift(level, told.detach(), sights)
        maps[BEV] = self.bev_net(maps[LIFTED])
        return Predictions(
            responses={
                **self.head(maps[BEV]),
                "depth_logits": logits,
                "depth_m": self.depth.expected_m(logits),
            },
            features={**found.features, **maps},
        )

    def _on_grid(self, voxels: Float[Tensor, "b stacked y x"]) -> dict[str, Tensor]:
        """Maps from the heights of cells to what the grid network reads."""
        collapsed = self.collapse(voxels)
        if isinstance(self.adaptation, ResidualStream):
            residual, joined = self.adaptation(voxels, collapsed)
            return {VISUAL: collapsed, RESIDUAL: residual, LIFTED: joined}
        return {LIFTED: self.adaptation(collapsed)}

    def _told(
        self, inputs: Inputs, said: Float[Tensor, "n d h w"]
    ) -> Float[Tensor, "n d h w"] | None:
        """The distribution of true depth, where that is used; what is said in cells without."""
        if self._depth_use == "none":
            return None
        if inputs.depth_input is None:
            if self._depth_use == "lift":
                raise DataError("a network with model.depth_input reads true depth: none is given")
            return None
        told, is_known = self.depth.told(inputs.depth_input.flatten(0, 1), self.stride)
        return torch.where(is_known, told, said)

    def _sights(self, inputs: Inputs, image_size: tuple[int, int]) -> Sights:
        return find_sights(
            self.voxels,
            inputs.projection,
            inputs.bev_from_cam,
            stride=self.stride,
            map_size=level_size(image_size, self.stride),
            bins=self.depth.bins,
        )

    def _lift(
        self, level: Float[Tensor, "n c h w"], depth: Float[Tensor, "n d h w"], sights: Sights
    ) -> Float[Tensor, "b stacked y x"]:
        """All heights of each cell, side by side."""
        frames = (sights.camera.shape[0], -1)  # not len(), which would fix the batch of an export
        voxels = lean_lift(level.unflatten(0, frames), depth.unflatten(0, frames), sights)
        stacked: Tensor = voxels.unflatten(2, (self._grid.num_heights, *self._grid.size))
        return stacked.flatten(1, 2)


def _shares(logits: Float[Tensor, "n bins_plus_1 h w"]) -> Float[Tensor, "n bins h w"]:
    """Probabilities of the bins, without that of what is beyond them."""
    return logits.float().softmax(1)[:, :-1]
