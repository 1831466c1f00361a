"""3D-aware positional encoding: tells attention where the cells of a feature map are in space.

Source: ADD (arXiv:2211.16779) has such an encoding, motivated by dependence in 3D space instead of
image space; its formulas were not available to us. Ours is two layers over the places of each cell
(`codec.map_layout`): one at the depth that a network says or on a grid, or, as in PETR
(arXiv:2203.05625), several along its ray, which need no depth.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

Encoding = Literal["point", "ray", "none"]


class PositionalEncoding(nn.Module):
    """Places in the unit cube → channels, by two layers at each cell."""

    def __init__(self, places_per_cell: int, channels: int) -> None:
        """Build the layers.

        Args:
            places_per_cell: Places of one cell.
            channels: Of the encoding.
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 * places_per_cell, channels), nn.ReLU(), nn.Linear(channels, channels)
        )

    def forward(self, places: Float[Tensor, "n cells d 3"]) -> Float[Tensor, "n cells channels"]:
        """Encode the cells of n maps."""
        found: Tensor = self.layers(places.flatten(2))
        return found
