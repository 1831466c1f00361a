"""Waymo's 3D detection metrics: AP and its forms, by type, difficulty level and distance.

The numbers are those of Waymo's own tools, `compute_detection_metrics_main` and
`compute_detection_let_metrics_main`; what the latter says of single cameras is not computed.
Source: detection_metrics.cc, metrics_utils.cc and breakdown_generator.cc of the Waymo Open Dataset.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mono3d.evaluation.waymo_boxes import TYPES, WaymoData, WaymoDetections, WaymoLabels
from mono3d.evaluation.waymo_matching import (
    CUTOFFS,
    FALSE,
    HEADING,
    HITS,
    LONGITUDINAL,
    MISSED,
    NUM_COUNTS,
    count_matches,
    judge_pairs,
)

LEVELS = ("LEVEL_1", "LEVEL_2")
BANDS = ("all", "[0, 30)", "[30, 50)", "[50, +inf)")
"""Distances of a box's centre from the origin of its frame, metres."""
_EDGES = (30.0, 50.0)
_RECALL_STEP = 0.05
_RECALL_SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a table of scores is made.

    Attributes:
        min_iou: 3D overlap from which a detection can match a label, by type as in TYPES.
        is_tolerant: Whether boxes may be off along the ray from the camera (LET-3D-AP).
    """

    min_iou: tuple[float, ...]
    is_tolerant: bool = False


PROTOCOLS = {
    "std": Protocol(min_iou=(0.7, 0.5, 0.5, 0.5)),
    "std_iou_0.5": Protocol(min_iou=(0.5, 0.5, 0.5, 0.5)),
    "let": Protocol(min_iou=(0.5, 0.3, 0.3, 0.3), is_tolerant=True),
}
"""By table: Waymo's own; overlap 0.5, which camera papers add for vehicles; Waymo's LET-3D-AP."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Average precision of one type, level and distance band; every AP in [0, 1].

    Attributes:
        num_labels: Labels up to the level. Without any every AP is 0, as with Waymo's tools.
        ap: Area under precision over recall.
        aph: The same with each hit weighted by how right its heading is.
        apl: The same with each hit weighted by how right its distance is; None in standard tables.
    """

    num_labels: int
    ap: float
    aph: float
    apl: float | None


Table = dict[str, dict[str, dict[str, Score | None]]]
"""Type (of TYPES), level (of LEVELS), band (of BANDS) → score; None where it cannot be told."""


def waymo_metrics(data: WaymoData) -> dict[str, Table]:
    """All tables, by their names in PROTOCOLS.

    Scores are None at level 2 where labels say no number of points, and in the whole table "let"
    where no label says that a camera sees it.
    """
    return {name: _table(protocol, data) for name, protocol in PROTOCOLS.items()}


def average_precision(
    precisions: Float64[np.ndarray, " n"], recalls: Float64[np.ndarray, " n"]
) -> float:
    """Area under the best precision at this recall or a higher one, by trapezia.

    Gaps of recall are filled, from above, with points 0.05 apart, of the precision above the gap;
    below the lowest recall that is not 0 precision stays what it is there.

    Args:
        precisions: In any order.
        recalls: In the same.
    """
    # Rising recalls, from the one at which nothing is found.
    steps, step_of = np.unique(np.append(0.0, recalls), return_inverse=True)
    best = np.zeros(len(steps))
    np.maximum.at(best, step_of, np.append(0.0, precisions))
    reached = np.maximum.accumulate(best[::-1])[::-1]
    reached[0] = reached[min(1, len(steps) - 1)]
    gaps = np.diff(steps)
    filled = (np.ceil((gaps - _RECALL_SLACK) / _RECALL_STEP) - 1).clip(min=0) * _RECALL_STEP
    # Precision rises towards the lower recall only over what is not filled.
    areas = gaps * reached[1:] + (gaps - filled) * (reached[:-1] - reached[1:]) / 2
    return float(areas.sum())


def _table(protocol: Protocol, data: WaymoData) -> Table:
    table: Table = {name: {level: dict.fromkeys(BANDS) for level in LEVELS} for name in TYPES}
    labels = data.camera_labels if protocol.is_tolerant else data.labels
    if labels is None:
        return table
    counts = _counts(protocol, labels, data)
    bands = _bands(labels.boxes)
    for kind, level, band in product(range(len(TYPES)), data.levels, range(len(BANDS))):
        is_meant = (labels.types == kind) & (labels.levels <= level) & bands[band]
        table[TYPES[kind]][LEVELS[level - 1]][BANDS[band]] = _score(
            counts[kind, band], level, int(is_meant.sum()), is_tolerant=protocol.is_tolerant
        )
    return table


def _score(
    counts: Float64[np.ndarray, "cutoffs counts"], level: int, num_labels: int, *, is_tolerant: bool
) -> Score:
    hits = counts[:, HITS]
    # A hit counts at either level, whatever the level of its label; a miss does not.
    recalls = _share(hits, hits + counts[:, MISSED + level - 1])
    found = hits + counts[:, FALSE]
    ap, aph, apl = (
        average_precision(_share(counts[:, gain], found), recalls)
        for gain in (HITS, HEADING, LONGITUDINAL)
    )
    return Score(num_labels=num_labels, ap=ap, aph=aph, apl=apl if is_tolerant else None)


def _share(
    part: Float64[np.ndarray, " n"], whole: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """The part of the whole; 0 of nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _counts(
    protocol: Protocol, labels: WaymoLabels, data: WaymoData
) -> Float64[np.ndarray, "types bands cutoffs counts"]:
    """What is counted in all frames."""
    counts = np.zeros((len(TYPES), len(BANDS), len(CUTOFFS), NUM_COUNTS))
    detections, camera = data.detections, data.camera if protocol.is_tolerant else None
    label_bands, detection_bands = _bands(labels.boxes), _bands(detections.boxes)
    for kind, found, wanted in _groups(labels, detections):
        boxes = detections.boxes[found], labels.boxes[wanted]
        pairs = judge_pairs(*boxes, protocol.min_iou[kind], camera)
        columns = detections.scores[found], detections.is_excused[found], labels.levels[wanted]
        for band in range(len(BANDS)):
            # A band is on its own: a detection does not find a label of the next band.
            of_band = (
                np.flatnonzero(detection_bands[band, found]),
                np.flatnonzero(label_bands[band, wanted]),
            )
            count_matches(pairs, *of_band, *columns, counts[kind, band])
    return counts


def _groups(
    labels: WaymoLabels, detections: WaymoDetections
) -> Iterator[tuple[int, Int64[np.ndarray, " n"], Int64[np.ndarray, " m"]]]:
    """Of every type in every frame: the type, its detections (best score first) and its labels."""
    label_keys, detection_keys = (
        columns.frames * len(TYPES) + columns.types for columns in (labels, detections)
    )
    wanted = np.argsort(label_keys, kind="stable")
    found = np.lexsort((-detections.scores, detection_keys))
    keys = np.union1d(label_keys, detection_keys)
    bounds = (
        np.searchsorted(ordered, [keys, keys + 1]).T.tolist()
        for ordered in (detection_keys[found], label_keys[wanted])
    )
    for key, of_found, of_wanted in zip(keys.tolist(), *bounds, strict=True):
        yield key % len(TYPES), found[slice(*of_found)], wanted[slice(*of_wanted)]


def _bands(boxes: Float64[np.ndarray, "n 7"]) -> Bool[np.ndarray, "bands n"]:
    """Whether each box is in each band."""
    band = np.digitize(np.linalg.norm(boxes[:, :3], axis=1), _EDGES)
    return np.stack([np.ones(len(boxes), dtype=bool), *(band == index for index in range(3))])
