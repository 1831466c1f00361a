"""Heat maps: a Gaussian bump for each object, as wide as a box may be shifted and still overlap.

Source: CornerNet (arXiv:1808.01244), section 3.2, for the radius; CenterNet (arXiv:1904.07850),
section 3, for the map: deviation (2 r + 1) / 6, the greater value where two bumps meet.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

MIN_OVERLAP = 0.7
"""IoU that two boxes of one size keep when a corner is shifted by the radius."""
MAX_RADIUS = 16
"""Cells; a box of 180 cells has that much. Bumps are drawn in windows of this size."""


def bump_radius(size: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n"]:
    """Radius of the bump of a box.

    The least of three: both corners shifted the same way, both inwards, both outwards.

    Args:
        size: Width and height of the box in cells, at least 0.

    Returns:
        Cells, between 0 and MAX_RADIUS.
    """
    total, area = size.sum(-1), size.prod(-1)
    keep, half = MIN_OVERLAP, total / 2
    # (w - r)(h - r) is the overlap, (w - 2r)(h - 2r) what is left, (w + 2r)(h + 2r) the hull.
    shifted = half - (half**2 - area * (1 - keep) / (1 + keep)).clamp(min=0).sqrt()
    inwards = (half - (half**2 - area * (1 - keep)).clamp(min=0).sqrt()) / 2
    outwards = ((half**2 + area * (1 - keep) / keep).sqrt() - half) / 2
    return torch.stack([shifted, inwards, outwards]).amin(0).clamp(0, MAX_RADIUS)


def draw_bumps(
    cells: Int64[Tensor, "n k 2"],
    radius: Float[Tensor, "n k"],
    channels: Int64[Tensor, "n k"],
    valid: Bool[Tensor, "n k"],
    *,
    num_channels: int,
    size: tuple[int, int],
) -> Float[Tensor, "n points channels"]:
    """Heat maps of n images, 1 at the cells themselves.

    Args:
        cells: Column and row of each bump's middle; may lie outside.
        radius: Cells; a bump ends there.
        channels: Map that each is drawn into.
        valid: False draws nothing.
        num_channels: Maps of an image.
        size: Rows and columns of a map.
    """
    rows, columns = size
    reach = torch.arange(-MAX_RADIUS, MAX_RADIUS + 1, device=cells.device)
    down, right = (x.flatten() for x in torch.meshgrid(reach, reach, indexing="ij"))
    column, row = cells[..., :1] + right, cells[..., 1:] + down
    deviation = (2 * radius + 1)[..., None] / 6
    values = torch.exp(-(right**2 + down**2) / (2 * deviation**2))
    is_drawn = (torch.maximum(right.abs(), down.abs()) <= radius[..., None]) & valid[..., None]
    is_drawn = is_drawn & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    point = row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)
    index = point * num_channels + channels[..., None]
    maps = values.new_zeros(len(cells), rows * columns * num_channels)
    values = torch.where(is_drawn, values, 0.0)
    maps = maps.scatter_reduce(1, index.flatten(1), values.flatten(1), "amax")
    return maps.view(len(cells), rows * columns, num_channels)
