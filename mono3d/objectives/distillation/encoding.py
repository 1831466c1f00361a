"""3D-aware positional encoding: tells attention where the cells of a feature map are in space.

Source: ADD (arXiv:2211.16779) has such an encoding, motivated by dependence in 3D space instead of
image space; its formulas were not available to us. Both forms here are our reconstruction: points
at the depth that a network says, and, as in PETR (arXiv:2203.05625), points at fixed depths along
each cell's ray, which need no depth.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.depth import lid_bin_edges
from mono3d.geometry.camera import unproject

Encoding = Literal["point", "ray", "none"]

_LOW_M, _HIGH_M = (-50.0, -5.0, 0.0), (50.0, 5.0, 70.0)
"""Range of x (right), y (down) and z (forward) that is brought to [0, 1]."""
_RAY_DEPTHS = 16
_RAY_RANGE_M = (2.0, 70.0)


class PositionalEncoding(nn.Module):
    """Places in the camera frame → channels, by two layers at each cell."""

    depths_m: Tensor
    low_m: Tensor
    span_m: Tensor

    def __init__(self, form: Literal["point", "ray"], channels: int) -> None:
        """Build the layers.

        Args:
            form: One point at a given depth, or points at LID depths along the ray.
            channels: Of the encoding.
        """
        super().__init__()
        edges = lid_bin_edges(_RAY_DEPTHS, *_RAY_RANGE_M)
        depths = (edges[1:] + edges[:-1]) / 2 if form == "ray" else torch.zeros(0)
        low, high = torch.tensor(_LOW_M), torch.tensor(_HIGH_M)
        self.register_buffer("depths_m", depths, persistent=False)
        self.register_buffer("low_m", low, persistent=False)
        self.register_buffer("span_m", high - low, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(3 * (len(depths) or 1), channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
        )

    def forward(
        self,
        cells_px: Float[Tensor, "cells 2"],
        depth_m: Float[Tensor, "n cells"],
        projection: Float[Tensor, "n 3 4"],
    ) -> Float[Tensor, "n cells channels"]:
        """Encode the cells of n images.

        Args:
            cells_px: Their pixels.
            depth_m: What the network says of each; rays do not look at it.
            projection: Of each image's camera.
        """
        depths = depth_m[..., None]
        if len(self.depths_m):
            depths = self.depths_m.expand(*depth_m.shape, -1)
        shape = depths.shape
        places = unproject(
            cells_px[None, :, None].expand(*shape, 2), depths, projection[:, None, None]
        )
        places = ((places - self.low_m) / self.span_m).clamp(0, 1)
        found: Tensor = self.layers(places.flatten(2))
        return found
