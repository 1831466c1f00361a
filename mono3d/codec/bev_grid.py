"""The grid on the ground on which bird's-eye-view detectors compute and answer.

Maps of the grid are [..., y, x]: rows along y (to the left), columns along x (forward), as the
authors of CaDDN (arXiv:2103.01100) and PointPillars (arXiv:1812.05784) have them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_ROUNDING = 1e-6
"""Cells by which a range may miss a whole number of them."""


@dataclass(frozen=True, kw_only=True)
class BevGrid:
    """Square cells over a rectangle of the bev frame, in `num_heights` layers."""

    x_range_m: tuple[float, float]
    """Forward."""
    y_range_m: tuple[float, float]
    """To the left."""
    z_range_m: tuple[float, float]
    """Upwards."""
    cell_m: float
    num_heights: int = 1

    def __post_init__(self) -> None:
        """Ranges are whole numbers of cells.

        Raises:
            ValueError: If they are not, or are empty.
        """
        for name, (low, high) in (("x", self.x_range_m), ("y", self.y_range_m)):
            cells = (high - low) / self.cell_m
            if cells < 1 or abs(cells - round(cells)) > _ROUNDING * cells:
                raise ValueError(
                    f"{name}_range_m={low:g}, {high:g}: is {cells:g} cells of {self.cell_m:g} m; "
                    "must be a whole number of them"
                )
        if self.z_range_m[1] <= self.z_range_m[0]:
            low, high = self.z_range_m
            raise ValueError(f"z_range_m={low:g}, {high:g}: must rise")

    @property
    def size(self) -> tuple[int, int]:
        """Rows (along y) and columns (along x)."""
        (x_low, x_high), (y_low, y_high) = self.x_range_m, self.y_range_m
        return round((y_high - y_low) / self.cell_m), round((x_high - x_low) / self.cell_m)

    def __len__(self) -> int:
        rows, columns = self.size
        return rows * columns

    def cell_centers(self, device: torch.device | None = None) -> Float[Tensor, "cells 2"]:
        """Middle (x, y) of each cell in metres, row after row."""
        rows, columns = self.size
        row, column = torch.meshgrid(
            torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
        )
        return self.to_places(torch.stack([column, row], dim=-1).flatten(0, 1).float())

    def voxel_centers(self, device: torch.device | None = None) -> Float[Tensor, "z y x 3"]:
        """Middle (x, y, z) of each cell of each layer in metres, lowest layer first."""
        low, high = self.z_range_m
        step = (high - low) / self.num_heights
        z = low + (torch.arange(self.num_heights, device=device) + 0.5) * step
        flat = self.cell_centers(device).view(1, *self.size, 2).expand(self.num_heights, -1, -1, -1)
        return torch.cat([flat, z.view(-1, 1, 1, 1).expand(*flat.shape[:3], 1)], dim=-1)

    def to_cells(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Column and row of places (x, y); whole numbers are middles of cells."""
        x, y = points.unbind(-1)  # numbers one by one: a tensor of them would have to be copied
        column = (x - self.x_range_m[0]) / self.cell_m - 0.5
        return torch.stack([column, (y - self.y_range_m[0]) / self.cell_m - 0.5], dim=-1)

    def to_places(self, cells: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """The place (x, y) in metres of a column and row; the inverse of `to_cells`."""
        column, row = cells.unbind(-1)
        x = self.x_range_m[0] + (column + 0.5) * self.cell_m
        return torch.stack([x, self.y_range_m[0] + (row + 0.5) * self.cell_m], dim=-1)

    def nearest_cells(
        self, points: Float[Tensor, "*n 2"]
    ) -> tuple[Int64[Tensor, "*n 2"], Bool[Tensor, "*n"]]:
        """Column and row of the cell that holds each place (x, y), and whether one does.

        Of places outside it is the nearest cell.
        """
        rows, columns = self.size
        column, row = (self.to_cells(points) + 0.5).floor().long().unbind(-1)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        nearest = torch.stack([column.clamp(0, columns - 1), row.clamp(0, rows - 1)], dim=-1)
        return nearest, inside
