"""How alike detections and labels are, which finds which, and what that counts, by Waymo's rules.

Source: iou.cc, matcher.cc and detection_metrics.cc of the Waymo Open Dataset; W.-C. Hung et al.,
LET-3D-AP: Longitudinal Error Tolerant 3D Average Precision for Camera-Only 3D Detection, 2022.
"""

from typing import NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float64

from mono3d.geometry.fast_iou import can_meet, reaches, rectangle_overlap

_SMALLEST_SIDE = 1e-2
"""Boxes with a side of at most this, in metres, overlap with nothing."""
_TINY = 1e-6
_UNITS_OF_WORTH = 1e6
"""Waymo matches by whole numbers: a match is worth at most this many units."""
_TOLERANCE = 0.1
"""Longitudinal tolerance, as a share of the label's distance from the camera."""
_LEAST_TOLERANCE = 0.5
"""The same for near labels, metres."""
_FOOTPRINT = [0, 1, 3, 4, 6]

CUTOFFS = (np.arange(101) * 0.01).astype(np.float32)
"""Detections of at least this score are kept: each gives one point of precision and recall."""

HITS, HEADING, LONGITUDINAL, FALSE, MISSED = range(5)
"""What `count_matches` counts: hits; hits weighted by how right their heading is, and by how right
their distance is; false detections; missed labels of level 1; and, last, missed labels."""
NUM_COUNTS = MISSED + 2


class Pairs(NamedTuple):
    """Every one of n detections with every one of m labels, of one frame and type."""

    worth: Float64[np.ndarray, "n m"]
    """Of a match; 0 where they must not match."""
    heading: Float64[np.ndarray, "n m"]
    """1 for the same heading, 0 for the opposite one."""
    longitudinal: Float64[np.ndarray, "n m"]
    """1 at the label's distance from the camera, 0 where off by the tolerance or more; 1 where
    distance is not judged."""


def judge_pairs(
    detected: Float64[np.ndarray, "n 7"],
    labelled: Float64[np.ndarray, "m 7"],
    min_iou: float,
    camera: Float64[np.ndarray, "3"] | None = None,
) -> Pairs:
    """Judge all pairs; those may match whose 3D overlap is at least `min_iou`.

    Args:
        detected: Boxes as in `StatedLabels`.
        labelled: Likewise.
        min_iou: In (0, 1].
        camera: Where it is in their frame, metres. Given, overlap is measured after the detection
            moved along its ray from the camera to where it is nearest to the label, and pairs whose
            distances differ too much do not match: by a tenth, and half a metre, or more.
    """
    if camera is None:
        longitudinal = np.ones((len(detected), len(labelled)))
        centers = np.broadcast_to(detected[:, None, :3], (*longitudinal.shape, 3))
    else:
        centers, longitudinal = _along_rays(detected, labelled, camera)
    # Waymo compares in single precision, and 0.7 is more in double than in single.
    iou = _iou(detected, labelled, centers, longitudinal > 0).astype(np.float32)
    worth = np.rint(_UNITS_OF_WORTH * longitudinal * iou)
    turn = detected[:, None, 6] - labelled[None, :, 6]
    return Pairs(
        worth=np.where(iou >= np.float32(min_iou), worth, 0.0),
        heading=1 - np.abs((turn + np.pi) % (2 * np.pi) - np.pi) / np.pi,
        longitudinal=longitudinal,
    )


def _along_rays(
    detected: Float64[np.ndarray, "n 7"],
    labelled: Float64[np.ndarray, "m 7"],
    camera: Float64[np.ndarray, "3"],
) -> tuple[Float64[np.ndarray, "n m 3"], Float64[np.ndarray, "n m"]]:
    """Where each detection is nearest to each label, and how right its distance is."""
    rays, targets = detected[:, :3] - camera, labelled[:, :3] - camera
    products = rays @ targets.T
    distances = np.linalg.norm(targets, axis=1).clip(min=_TINY)
    tolerances = np.maximum(_TOLERANCE * distances, _LEAST_TOLERANCE)
    # The error is along the ray to the label, although the box moves along its own.
    errors = np.abs(products / distances - distances)
    factors = products / (rays**2).sum(1, keepdims=True).clip(min=_TINY)
    centers = camera + factors[..., None] * rays[:, None]
    return centers, (1 - errors / tolerances).clip(min=0)


def _iou(
    detected: Float64[np.ndarray, "n 7"],
    labelled: Float64[np.ndarray, "m 7"],
    centers: Float64[np.ndarray, "n m 3"],
    is_wanted: Bool[np.ndarray, "n m"],
) -> Float64[np.ndarray, "n m"]:
    """3D overlap of labels with detections whose centre depends on the label; 0 if not wanted."""
    is_solid, is_solid_label = (
        (boxes[:, 3:6] > _SMALLEST_SIDE).all(1) for boxes in (detected, labelled)
    )
    rows, columns = np.nonzero(is_wanted & is_solid[:, None] & is_solid_label)
    moved, still = detected[rows], labelled[columns]
    moved[:, :3] = centers[rows, columns]
    low, high = (
        pick(moved[:, 2] + side * moved[:, 5], still[:, 2] + side * still[:, 5])
        for pick, side in ((np.maximum, -0.5), (np.minimum, 0.5))
    )
    areas = _shared_areas(moved[:, _FOOTPRINT], still[:, _FOOTPRINT])
    shared = areas * (high - low).clip(min=0)
    iou = np.zeros(is_wanted.shape)
    iou[rows, columns] = shared / (moved[:, 3:6].prod(1) + still[:, 3:6].prod(1) - shared)
    return iou


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def count_matches(pairs, rows, columns, scores, is_excused, levels, counts):
    """Match some detections of a frame and type at every cut-off, and add what comes of it.

    At a cut-off the matching of most worth holds, of detections of at least that score. Going down
    the scores it is mended for one detection more, so that one run serves all cut-offs.

    Args:
        pairs: Of all detections, by falling score, and labels.
        rows: Rising indices of the detections that take part.
        columns: Indices of the labels that take part.
        scores: Of all detections [n].
        is_excused: Whether a detection is never false [n].
        levels: Of all labels, 1 or 2 [m].
        counts: Added to [CUTOFFS, NUM_COUNTS].
    """
    worth = pairs.worth[rows][:, columns]
    num_detections, num_labels = worth.shape
    # Places for detections: the labels, as many places without a label, and one for a newcomer.
    holders = np.full(num_labels + num_detections + 1, -1)
    prices, place_prices = np.zeros(num_detections), np.zeros(len(holders))
    kept = blamed = 0
    for k in range(len(CUTOFFS) - 1, -1, -1):
        while kept < num_detections and scores[rows[kept]] >= CUTOFFS[k]:
            if worth[kept].any():
                _place(kept, worth, holders, prices, place_prices)
            blamed += not is_excused[rows[kept]]
            kept += 1
        counts[k, FALSE] += blamed
        for place, column in enumerate(columns):
            if holders[place] >= 0:
                row = rows[holders[place]]
                counts[k, HITS] += 1
                counts[k, HEADING] += pairs.heading[row, column]
                counts[k, LONGITUDINAL] += pairs.longitudinal[row, column]
                counts[k, FALSE] -= not is_excused[row]
            else:
                counts[k, MISSED] += levels[column] <= 1
                counts[k, MISSED + 1] += 1


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _place(newcomer, worth, holders, prices, place_prices):
    """Give one more detection a place, so that the matching again has the most worth.

    The Hungarian algorithm: others move along the cheapest path to a free place (Jonker and
    Volgenant, 1987).

    Args:
        newcomer: Index of the detection.
        worth: Of matches [n, m].
        holders: Detection in each place, -1 for none [m + n + 1]; changed.
        prices: Of the detections [n]; changed.
        place_prices: Of the places [m + n + 1]; changed.
    """
    num_labels, start = worth.shape[1], len(holders) - 1
    holders[start] = newcomer
    costs, comes_from = np.full(start, np.inf), np.full(start, start)
    is_reached = np.zeros(start + 1, dtype=np.bool_)
    place = start
    while holders[place] >= 0:
        is_reached[place] = True
        mover, cheapest, step = holders[place], -1, np.inf
        for other in range(start):
            if is_reached[other]:
                continue
            gain = worth[mover, other] if other < num_labels else 0.0
            if gain > 0 or other >= num_labels:
                cost = -gain - prices[mover] - place_prices[other]
                if cost < costs[other]:
                    costs[other], comes_from[other] = cost, place
            if costs[other] < step:
                cheapest, step = other, costs[other]
        for other in range(start + 1):
            if is_reached[other]:
                prices[holders[other]] += step
                place_prices[other] -= step
            else:
                costs[other] -= step
        place = cheapest
    while place != start:
        holders[place] = holders[comes_from[place]]
        place = comes_from[place]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _shared_areas(a, b):
    """Area that each footprint of a shares with the one of b in the same place."""
    shared = np.zeros(len(a))
    polygons = np.empty((2, 8, 2))  # room for `rectangle_overlap`
    reach_a, reach_b = reaches(a), reaches(b)
    for k in range(len(a)):
        if can_meet(a[k], reach_a[k], b[k], reach_b[k]):
            shared[k] = rectangle_overlap(a[k], b[k], polygons)
    return shared
