"""Footprints by hand and at random, and shapely's view of them."""

import shapely
import torch
from torch import Tensor

DTYPE = torch.float64


def footprints(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=DTYPE)


def random_footprints(count: int, seed: int, spread: float = 6.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(count, 2, generator=generator, dtype=DTYPE) * spread
    size = torch.rand(count, 2, generator=generator, dtype=DTYPE) * 5 + 0.1
    yaw = torch.rand(count, 1, generator=generator, dtype=DTYPE) * 20 - 10
    return torch.cat([place, size, yaw], dim=1)


def polygons(rows: Tensor) -> list[shapely.Polygon]:
    found = []
    for x, y, length, width, yaw in rows.tolist():
        box = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
        turned = shapely.affinity.rotate(box, yaw, origin=(0, 0), use_radians=True)
        found.append(shapely.affinity.translate(turned, x, y))
    return found
