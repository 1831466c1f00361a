"""The depth that an image row gives away, as a baseline no detector may lose against.

A fixed camera over a flat road makes depth a function of the image row where an object stands. A
network that has learnt just that function looks good where camera and road never change. The
baseline is that function itself, learnt from the labels: it is told the true class and true row.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from mono3d.geometry.camera import project
from mono3d.structures import Boxes3D

_MAX_KNOTS = 32
_MIN_OBJECTS_PER_KNOT = 20


@dataclass(frozen=True, kw_only=True)
class RowBaseline:
    """For each class, log depth at some image rows; linear between them, constant beyond."""

    rows_px: tuple[Float64[NDArray[Any], " knots"], ...]
    log_depth: tuple[Float64[NDArray[Any], " knots"], ...]

    def predict(
        self, rows_px: Float64[NDArray[Any], " n"], labels: Int64[NDArray[Any], " n"]
    ) -> Float64[NDArray[Any], " n"]:
        """Depth in metres of objects that stand at these rows."""
        depth_m = np.empty(len(rows_px))
        for label, (knots, log_depth) in enumerate(zip(self.rows_px, self.log_depth, strict=True)):
            members = labels == label
            depth_m[members] = np.exp(np.interp(rows_px[members], knots, log_depth))
        return depth_m


def fit_row_baseline(
    rows_px: Float64[NDArray[Any], " n"],
    depth_m: Float64[NDArray[Any], " n"],
    labels: Int64[NDArray[Any], " n"],
    num_classes: int,
) -> RowBaseline:
    """The baseline of the training objects: medians of log depth over equally filled rows.

    A median at up to 32 rows follows any road and camera height, and is not pulled by outliers. A
    class with fewer than 20 objects gets the curve of all classes together.

    Args:
        rows_px: Where the training objects stand, from `ground_rows`.
        depth_m: Their true depths.
        labels: Their classes.
        num_classes: Number of classes of the run.

    Raises:
        ValueError: If there are no objects at all.
    """
    if not len(rows_px):
        raise ValueError("the row-to-depth baseline needs at least one training object")
    log_depth = np.log(depth_m)
    of_all = _medians_by_row(rows_px, log_depth)
    curves = []
    for label in range(num_classes):
        members = labels == label
        is_known = members.sum() >= _MIN_OBJECTS_PER_KNOT
        curves.append(_medians_by_row(rows_px[members], log_depth[members]) if is_known else of_all)
    return RowBaseline(
        rows_px=tuple(rows for rows, _ in curves), log_depth=tuple(depths for _, depths in curves)
    )


def ground_rows(
    truth: Boxes3D, projection: Float[Tensor, "*#n 3 4"]
) -> Float64[NDArray[Any], " n"]:
    """Image rows at which camera-frame boxes stand: of the projected centres of their bottoms.

    Args:
        truth: Boxes with the leading shape [n].
        projection: Of the camera of all boxes, or of each.
    """
    half_height = truth.dims_hwl[..., :1] / 2
    downwards = torch.cat([torch.zeros_like(half_height), half_height, half_height * 0], dim=-1)
    return project(truth.centers + downwards, projection)[..., 1].double().cpu().numpy()


def _medians_by_row(
    rows_px: Float64[NDArray[Any], " n"], log_depth: Float64[NDArray[Any], " n"]
) -> tuple[Float64[NDArray[Any], " knots"], Float64[NDArray[Any], " knots"]]:
    """Median row and median log depth of groups of neighbouring rows, in the order of the rows."""
    order = np.argsort(rows_px, kind="stable")
    num_knots = int(np.clip(len(rows_px) // _MIN_OBJECTS_PER_KNOT, 1, _MAX_KNOTS))
    groups = np.array_split(order, num_knots)
    rows = np.array([np.median(rows_px[group]) for group in groups])
    return rows, np.array([np.median(log_depth[group]) for group in groups])
