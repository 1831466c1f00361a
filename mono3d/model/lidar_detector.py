"""The LiDAR detector: pillars on the grid of the camera detectors. A teacher, not a product.

Source: PointPillars (arXiv:1812.05784). Between pillars and backbone ours has a few convolutions,
so that the map that is distilled is dense where objects are, as that of SECOND's sparse
convolutions is; backbone and head are those of `BevDetector`, whose weights can start from them.
"""

import itertools
from collections.abc import Mapping

from torch import nn

from mono3d.codec.bev_codec import BEV, LIFTED, PILLARS
from mono3d.errors import DataError
from mono3d.model.bev_heads import AnchorHead, BevCenterHead
from mono3d.model.bev_net import BevNet, conv_block
from mono3d.model.pillars import PillarNet
from mono3d.structures import Inputs, Predictions


class LidarDetector(nn.Module):
    """LiDAR points → responses on the grid of their moment."""

    def __init__(
        self,
        *,
        pillars: PillarNet,
        pillar_channels: int,
        stem_layers: int,
        lifted_channels: int,
        bev_net: BevNet,
        head: AnchorHead | BevCenterHead,
    ) -> None:
        """Join the parts.

        Args:
            pillars: Brings points to the grid.
            pillar_channels: Of its map.
            stem_layers: Convolutions from there to the map that is distilled.
            lifted_channels: Of that map.
            bev_net: Reads it.
            head: Answers on the grid.
        """
        super().__init__()
        self.pillars = pillars
        widths = [pillar_channels, *[lifted_channels] * stem_layers]
        self.stem = nn.Sequential(*(conv_block(a, b) for a, b in itertools.pairwise(widths)))
        self.bev_net = bev_net
        self.head = head
        self.features: Mapping[str, tuple[int, int]] = {
            PILLARS: (pillar_channels, 1),
            LIFTED: (lifted_channels, 1),
            BEV: (bev_net.out_channels, 1),
        }
        """Name → (channels, stride in cells) of its feature maps."""
        self.responses: Mapping[str, int] = dict(head.responses)
        """Name → channels of what is said at each place of the grid."""
        self.told_features = (LIFTED,)
        """Names of the maps that first know true depth."""

    def forward(self, inputs: Inputs) -> Predictions:
        """Responses [b, places, channels] and maps [b, c, y, x] of frames."""
        if inputs.points is None or inputs.point_offsets is None:
            raise DataError("a network with model.kind=lidar reads LiDAR points: none are given")
        pillars = self.pillars(inputs.points, inputs.point_offsets)
        lifted = self.stem(pillars)
        bev = self.bev_net(lifted)
        maps = {PILLARS: pillars, LIFTED: lifted, BEV: bev}
        return Predictions(responses=self.head(bev), features=maps)
