"""How good depths are, object by object: overall, by class, by range and by how much is visible.

Depth is judged on pairs that are made without looking at depth: read at the projected centre of
each labelled object (`centers`), or by matching detections to labels in the image (`matched`, with
recall beside it). Pairs matched by distance in space would hide the error that they measure: an
untrained network scores a few per cent that way. The overlap of projected 3D boxes depends on
depth too, through their size, so the match looks at projected centres alone.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.geometry.camera import MIN_DEPTH_M, project
from mono3d.structures import Boxes3D, Detections

RANGE_EDGES_M = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, np.inf)
"""Range bands, near edge included; the last one is open."""
VISIBLE_EDGES = (0.0, 0.4, 0.6, 0.8, 1.0)
"""Bands of the visible share, lower edge included and 1 in the last: nuScenes' levels."""
MAX_CENTER_OFFSET = 0.5
"""Largest offset between matched centres, along either axis, in widths and heights of the label."""


@dataclass(frozen=True, kw_only=True)
class DepthPairs:
    """True and predicted depth of labelled objects, one row an object."""

    predicted_m: Float64[NDArray[Any], " n"]
    """NaN where the object was not found; below MIN_DEPTH_M it counts as MIN_DEPTH_M."""
    true_m: Float64[NDArray[Any], " n"]
    labels: Int64[NDArray[Any], " n"]
    range_m: Float64[NDArray[Any], " n"]
    """Distance on the ground between camera and centre: what range bands go by."""
    visibility: Float64[NDArray[Any], " n"]
    """Visible share of the object; NaN where unknown."""

    def __len__(self) -> int:
        return len(self.true_m)

    def select(self, index: Bool[NDArray[Any], " n"]) -> "DepthPairs":
        """The objects that a mask names."""
        return DepthPairs(**{name: values[index] for name, values in vars(self).items()})


def pair_depths(predicted_m: Float[Tensor, " n"], truth: Boxes3D) -> DepthPairs:
    """Pairs of labelled objects with depths that were read for them, in the order of the labels.

    Args:
        predicted_m: What the network says at each object's projected centre, NaN where nothing.
        truth: Camera-frame boxes; padded slots and centres behind the camera are left out.
    """
    kept = truth.valid & (truth.centers[:, 2] >= MIN_DEPTH_M)
    centers = truth.centers[kept].double()
    return DepthPairs(
        predicted_m=predicted_m[kept].double().cpu().numpy(),
        true_m=centers[:, 2].cpu().numpy(),
        labels=truth.labels[kept].cpu().numpy(),
        range_m=centers[:, [0, 2]].norm(dim=1).cpu().numpy(),
        visibility=truth.visibility[kept].double().cpu().numpy(),
    )


def concatenate(parts: Iterable[DepthPairs]) -> DepthPairs:
    """The pairs of many images as one; no parts give no pairs."""
    nothing = np.zeros(0)
    none = DepthPairs(
        predicted_m=nothing,
        true_m=nothing,
        labels=np.zeros(0, np.int64),
        range_m=nothing,
        visibility=nothing,
    )
    columns = [vars(part) for part in (none, *parts)]
    return DepthPairs(**{name: np.concatenate([c[name] for c in columns]) for name in vars(none)})


def match_in_image(
    detections: Detections,
    truth: Boxes3D,
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
) -> DepthPairs:
    """Depths of one image: each labelled object's and that of the detection that marks it.

    Args:
        detections: In the camera frame of this image.
        truth: Labelled boxes in the same frame.
        projection: To the pixels in which both are compared.
        image_size: Height and width in pixels; an object's 2D size is that of its part inside.

    Returns:
        One row an object; those that no detection marks have a predicted depth of NaN.
    """
    detection, label = pairs_in_image(detections, truth, projection, image_size)
    predicted_m = torch.full_like(truth.yaw, torch.nan)
    predicted_m[label] = detections.boxes.centers[detection, 2]
    return pair_depths(predicted_m, truth)


def pairs_in_image(
    detections: Detections,
    truth: Boxes3D,
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
    *,
    across_classes: bool = False,
) -> tuple[Int64[NDArray[Any], " k"], Int64[NDArray[Any], " k"]]:
    """Detections and the labelled objects that they mark, one to one, as two lists of numbers.

    Detections choose in the order of their scores. Each takes, of the free objects of its class
    (or of any, `across_classes`) whose projected centre is at most MAX_CENTER_OFFSET of their 2D
    size away, the nearest.
    """
    found = detections.boxes.centers
    offset = _center_offset(found, truth, projection, image_size)
    same_class = detections.boxes.labels[:, None] == truth.labels[None]
    is_usable = (found[:, 2] >= MIN_DEPTH_M)[:, None] & truth.valid[None]
    candidate = (same_class | across_classes) & is_usable & (offset <= MAX_CENTER_OFFSET)
    detection, label = (index.cpu().numpy() for index in candidate.nonzero(as_tuple=True))
    pair_offset = offset[candidate].cpu().numpy()
    score = detections.scores[detection].cpu().numpy()
    order = np.lexsort((label, pair_offset, detection, -score))
    return _greedy_pairs(detection[order], label[order])


def depth_quality(
    pairs: DepthPairs, class_names: Sequence[str], pairing: Literal["centers", "matched"]
) -> dict[str, float]:
    """Depth errors of all objects, of each class, range band and band of visibility.

    Names are `{pairing}_depth_{error}`, with `_{class}`, `_{near}_{far}m` or
    `_visible_{least}_{most}` (per cent) behind; errors are abs_rel, sq_rel (m), rmse (m), rmse_log,
    silog (per cent) and delta1, delta2, delta3 (shares within a factor of 1.25, 1.25², 1.25³).
    `matched` has recall too. A name is absent where no object is in its cell, so no value is ever
    NaN.

    Source:
        Eigen et al., NeurIPS 2014; SILog as in the KITTI depth benchmark, root included, times 100.
    """
    metrics: dict[str, float] = {}
    for cell, members in _cells(pairs, class_names).items():
        inside = pairs.select(members)
        found = inside.select(np.isfinite(inside.predicted_m))
        errors = depth_errors(found.predicted_m, found.true_m)
        if pairing == "matched" and len(inside):
            errors = {**errors, "recall": len(found) / len(inside)}
        metrics |= {f"{pairing}_depth_{name}{cell}": value for name, value in errors.items()}
    return metrics


def depth_errors(
    predicted_m: Float64[NDArray[Any], " n"], true_m: Float64[NDArray[Any], " n"]
) -> Mapping[str, float]:
    """The errors that `depth_quality` names, of one set of depths; empty when there are none."""
    return errors_of_sums(error_sums(predicted_m, true_m).sum(axis=0))


def error_sums(
    predicted_m: Float64[NDArray[Any], " n"], true_m: Float64[NDArray[Any], " n"]
) -> Float64[NDArray[Any], "n 9"]:
    """What each depth adds to the sums that all errors are made of; see `errors_of_sums`.

    Args:
        predicted_m: Below MIN_DEPTH_M it counts as MIN_DEPTH_M.
        true_m: Above 0.
    """
    predicted_m = predicted_m.clip(min=MIN_DEPTH_M)
    error_m = predicted_m - true_m
    log_error = np.log(predicted_m / true_m)
    factor = np.exp(np.abs(log_error))
    columns = [np.ones_like(true_m), np.abs(error_m) / true_m, error_m**2 / true_m, error_m**2]
    columns += [log_error, log_error**2, *(factor < 1.25**k for k in (1, 2, 3))]
    sums: np.ndarray = np.stack(columns, axis=-1).astype(np.float64)
    return sums


def errors_of_sums(sums: Float64[NDArray[Any], "9"]) -> Mapping[str, float]:
    """Errors of a set of depths from the sum of its `error_sums`; sums of parts add up."""
    if not sums[0]:
        return {}
    abs_rel, sq_rel, squared, log_error, log_squared, *shares = (sums[1:] / sums[0]).tolist()
    return {
        "abs_rel": abs_rel,
        "sq_rel": sq_rel,
        "rmse": math.sqrt(squared),
        "rmse_log": math.sqrt(log_squared),
        "silog": 100 * math.sqrt(max(log_squared - log_error**2, 0.0)),
        **{f"delta{k}": share for k, share in enumerate(shares, 1)},
    }


def _center_offset(
    found: Float[Tensor, "n 3"],
    truth: Boxes3D,
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
) -> Float[Tensor, "n m"]:
    """Larger of the two offsets between projected centres, in widths and heights of the labels."""
    corners = corners_cam(truth.centers, truth.dims_hwl, truth.yaw)
    hulls, _ = hull_2d(corners, projection, image_size)
    size = (hulls[:, 2:] - hulls[:, :2]).clamp(min=1)
    difference = project(found, projection)[:, None] - project(truth.centers, projection)[None]
    return (difference.abs() / size).amax(-1)


def _greedy_pairs(
    first: Int64[NDArray[Any], " n"], second: Int64[NDArray[Any], " n"]
) -> tuple[Int64[NDArray[Any], " k"], Int64[NDArray[Any], " k"]]:
    """One-to-one pairs out of candidates, best candidate first: take a pair if both are free.

    All pairs that are the first of both their members are taken at once; the rest competes again.
    """
    taken: list[tuple[Int64[NDArray[Any], " k"], Int64[NDArray[Any], " k"]]] = []
    while len(first):
        best = np.intersect1d(
            np.unique(first, return_index=True)[1], np.unique(second, return_index=True)[1]
        )
        taken.append((first[best], second[best]))
        is_free = ~np.isin(first, first[best]) & ~np.isin(second, second[best])
        first, second = first[is_free], second[is_free]
    if not taken:
        return first, second
    return np.concatenate([a for a, _ in taken]), np.concatenate([b for _, b in taken])


def _cells(pairs: DepthPairs, class_names: Sequence[str]) -> dict[str, Bool[NDArray[Any], " n"]]:
    """Suffix of the name of every cell, and which objects are in it."""
    cells = {"": np.ones(len(pairs), dtype=np.bool_)}
    cells |= {f"_{name}": pairs.labels == label for label, name in enumerate(class_names)}
    for name, near, far in range_bands():
        cells[f"_{name}"] = (pairs.range_m >= near) & (pairs.range_m < far)
    for name, least, most in visible_bands():
        cells[f"_{name}"] = (pairs.visibility >= least) & (pairs.visibility < most)
    return cells


def range_bands() -> list[tuple[str, float, float]]:
    """Name, near and far edge of each band."""
    names = [f"{near:.0f}_{far:.0f}m" for near, far in pairwise(RANGE_EDGES_M[:-1])]
    names.append(f"{RANGE_EDGES_M[-2]:.0f}m_up")
    return [(name, *edges) for name, edges in zip(names, pairwise(RANGE_EDGES_M), strict=True)]


def visible_bands() -> list[tuple[str, float, float]]:
    """Name, least and most visible share of each band; the most is not in it."""
    edges = [*VISIBLE_EDGES[:-1], np.inf]
    return [
        (f"visible_{100 * low:.0f}_{100 * high:.0f}", least, most)
        for (low, high), (least, most) in zip(pairwise(VISIBLE_EDGES), pairwise(edges), strict=True)
    ]
