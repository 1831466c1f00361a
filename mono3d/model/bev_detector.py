"""The bird's-eye-view detector: image features lifted by a distribution over depth, then a grid.

Source: CaDDN (arXiv:2103.01100): features times categorical depth, sampled at voxels, collapsed in
height, a bird's-eye-view backbone and an anchor head. BEVDepth (arXiv:2206.10092) for several
cameras on one grid, depth that knows its camera and a centre head. Ours: any backbone with the
pyramid of the other detectors at one stride, the lean lift (`lift.py`), group norm.

With true depth in its input the distribution is that depth's, one-hot, and everything else as it
is: MonoTAKD's assistant (arXiv:2404.04910) and ADD's teacher (arXiv:2211.16779; how depth enters a
detector that lifts is our reconstruction).
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.bev_codec import BEV, LIFTED
from mono3d.codec.bev_grid import BevGrid
from mono3d.codec.points import level_size
from mono3d.errors import DataError
from mono3d.model.bev_heads import AnchorHead, BevCenterHead
from mono3d.model.bev_net import BevNet, conv_block
from mono3d.model.depth_distribution import DepthDistribution
from mono3d.model.lift import find_sights, lean_lift
from mono3d.model.self_calibrated import SelfCalibratedBlock
from mono3d.model.trunk import Trunk
from mono3d.structures import Inputs, Predictions


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
        reads_depth: bool = False,
        adaptation_blocks: int = 0,
    ) -> None:
        """Join the parts.

        Args:
            trunk: Yields one level.
            depth: Distribution over depth at its cells.
            grid: In space.
            lifted_channels: Of the map on the grid, once heights are collapsed.
            bev_net: Reads that map.
            head: Answers on the grid.
            reads_depth: Lift by true depth, which is in the input then.
            adaptation_blocks: Between lift and grid network, for students of LiDAR networks.
        """
        super().__init__()
        (self.stride,) = trunk.strides
        self.trunk = trunk
        self.depth = depth
        self.collapse = conv_block(trunk.channels * grid.num_heights, lifted_channels, kernel=1)
        self.adaptation = nn.Sequential(
            *(SelfCalibratedBlock(lifted_channels) for _ in range(adaptation_blocks))
        )
        self.bev_net = bev_net
        self.head = head
        self._grid = grid
        self._reads_depth = reads_depth
        self.register_buffer("voxels", grid.voxel_centers().flatten(0, 2), persistent=False)
        self.features: Mapping[str, tuple[int, int]] = {
            **trunk.features,
            LIFTED: (lifted_channels, 1),
            BEV: (bev_net.out_channels, 1),
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
        lifted = self._lift(level, self._distribution(logits, inputs), inputs)
        bev = self.bev_net(lifted)
        return Predictions(
            responses={
                **self.head(bev),
                "depth_logits": logits,
                "depth_m": self.depth.expected_m(logits),
            },
            features={**found.features, LIFTED: lifted, BEV: bev},
        )

    def _distribution(self, logits: Float[Tensor, "n _ h w"], inputs: Inputs) -> Tensor:
        if not self._reads_depth:
            return logits.float().softmax(1)[:, :-1]
        if inputs.depth_input is None:
            raise DataError("a network with model.depth_input reads true depth: none is given")
        return self.depth.told(inputs.depth_input.flatten(0, 1), self.stride)

    def _lift(
        self, level: Float[Tensor, "n c h w"], depth: Float[Tensor, "n d h w"], inputs: Inputs
    ) -> Float[Tensor, "b lifted y x"]:
        frames = inputs.images.shape[:2]
        sights = find_sights(
            self.voxels,
            inputs.projection,
            inputs.bev_from_cam,
            stride=self.stride,
            map_size=level_size((inputs.images.shape[-2], inputs.images.shape[-1]), self.stride),
            bins=self.depth.bins,
        )
        voxels = lean_lift(level.unflatten(0, frames), depth.unflatten(0, frames), sights)
        stacked = voxels.unflatten(2, (self._grid.num_heights, *self._grid.size)).flatten(1, 2)
        lifted: Tensor = self.adaptation(self.collapse(stacked))
        return lifted
