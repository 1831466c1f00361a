"""How good a depth map is where LiDAR knows the depth: overall and by depth.

The errors and their names are those of objects (`depth_quality`); a whole split has too many points
to keep, so each image leaves sums.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor

from mono3d.evaluation.depth_quality import error_sums, errors_of_sums, range_bands

DenseSums = Float64[NDArray[Any], "bands 9"]
"""Of all points, then of each band of `range_bands`, by true depth."""


def dense_sums(predicted_m: Float[Tensor, "h w"], true_m: Float[Tensor, "h w"]) -> DenseSums:
    """What one image adds.

    Args:
        predicted_m: At every cell.
        true_m: 0 where unknown.
    """
    is_known = true_m > 0
    true = true_m[is_known].double().cpu().numpy()
    sums = error_sums(predicted_m[is_known].double().cpu().numpy(), true)
    bands = [sums[(true >= near) & (true < far)].sum(axis=0) for _, near, far in range_bands()]
    return np.stack([sums.sum(axis=0), *bands])


def dense_quality(parts: Iterable[DenseSums]) -> dict[str, float]:
    """Errors of all images: `dense_depth_{error}`, with `_{near}_{far}m` behind.

    The errors are those of `depth_quality`; names are absent where no point is in the band.
    """
    parts = list(parts)
    if not parts:
        return {}
    cells = ["", *(f"_{name}" for name, _, _ in range_bands())]
    return {
        f"dense_depth_{error}{cell}": value
        for cell, sums in zip(cells, np.sum(parts, axis=0), strict=True)
        for error, value in errors_of_sums(sums).items()
    }
