"""Pillars: LiDAR points → a map on a grid in bird's-eye view.

Source: PointPillars (arXiv:1812.05784), section 2.1: nine numbers of each point, one layer, the
greatest value in each pillar. Ours takes all points of all pillars, as dynamic voxelisation does
(arXiv:1910.06528, section 3.1), so there is no limit of points or pillars to tune and nothing is
padded; and layer norm in place of batch norm.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mono3d.codec.bev_grid import BevGrid

_POINT_NUMBERS = 9
"""Place, intensity, offset from the pillar's mean point (3) and from its middle (2)."""


class PillarNet(nn.Module):
    """Points of frames → a map [b, channels, y, x]; zero where no point is."""

    def __init__(self, grid: BevGrid, *, channels: int) -> None:
        """One layer, shared by all points."""
        super().__init__()
        self._grid = grid
        self.layer = nn.Linear(_POINT_NUMBERS, channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, points: Float[Tensor, "n 4"], offsets: Int64[Tensor, " b_plus_1"]
    ) -> Float[Tensor, "b channels y x"]:
        """Encode the points of b frames; what lies outside of the grid's box is left out.

        Args:
            points: x, y, z in the bev frame and intensity, frame after frame.
            offsets: Frame i owns points[offsets[i] : offsets[i + 1]].
        """
        rows, columns = self._grid.size
        frames, pillars = len(offsets) - 1, (len(offsets) - 1) * len(self._grid)
        number = torch.arange(len(points), device=points.device)
        frame = torch.bucketize(number, offsets[1:], right=True)
        cells, inside = self._grid.nearest_cells(points[:, :2])
        low, high = self._grid.z_range_m
        inside = inside & (points[:, 2] >= low) & (points[:, 2] < high)
        own = frame * len(self._grid) + cells[:, 1] * columns + cells[:, 0]
        # One more pillar takes what is outside, so that nothing need be selected.
        index = torch.where(inside, own, pillars)
        told = self._numbers(points, cells, index, pillars)
        with torch.autocast(points.device.type, enabled=False):  # places need all their digits
            features = self.norm(self.layer(told)).relu()
        room = features.new_zeros(pillars + 1, features.shape[1])
        highest = room.scatter_reduce(0, index[:, None].expand_as(features), features, "amax")
        found: Tensor = highest[:-1].view(frames, rows, columns, -1).permute(0, 3, 1, 2)
        return found

    def _numbers(
        self,
        points: Float[Tensor, "n 4"],
        cells: Int64[Tensor, "n 2"],
        index: Int64[Tensor, " n"],
        pillars: int,
    ) -> Float[Tensor, "n numbers"]:
        """What the layer reads of each point: its place in the unit cube, offsets in metres."""
        place = points[:, :3]
        counted = torch.cat([place, torch.ones_like(place[:, :1])], dim=1)
        sums = counted.new_zeros(pillars + 1, 4).index_add(0, index, counted)
        mean = (sums[:, :3] / sums[:, 3:].clamp(min=1))[index]
        middle = self._grid.to_places(cells.float())
        (x_low, x_high), (y_low, y_high) = self._grid.x_range_m, self._grid.y_range_m
        z_low, z_high = self._grid.z_range_m
        x, y, z = place.unbind(1)
        unit = torch.stack(
            [
                (x - x_low) / (x_high - x_low),
                (y - y_low) / (y_high - y_low),
                (z - z_low) / (z_high - z_low),
            ],
            dim=1,
        )
        return torch.cat([unit, points[:, 3:], place - mean, place[:, :2] - middle], dim=1)
