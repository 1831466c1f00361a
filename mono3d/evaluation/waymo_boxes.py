"""Boxes as Waymo's detection metrics see them: columns of NumPy, and which labels count.

Boxes stand upright in a frame with x forward, y left and z up. It is the vehicle's frame where they
come from Waymo's protobuf files, and has its origin in the camera where they come from KITTI text.
"""

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

TYPES = ("VEHICLE", "PEDESTRIAN", "SIGN", "CYCLIST")
"""In the order of Waymo's numbers for them, which begin with 1; 0 is an unknown type."""

_MOST_POINTS_OF_LEVEL_2 = 5

Columns = TypeVar("Columns", "StatedLabels", "WaymoDetections")


@dataclass(frozen=True, kw_only=True)
class StatedLabels:
    """Ground truth as a file states it.

    Attributes:
        frames: Index of each label's frame.
        types: Index into TYPES, -1 for unknown.
        boxes: Centre x, y, z, length, width, height in metres, heading about z in radians, 0
            facing +x.
        camera_boxes: The same at the moment when the camera saw the object.
        levels: Difficulty that an annotator gave, 1 or 2; 0 where none did.
        num_points: LiDAR points inside the box, -1 where unknown.
        num_top_points: Of these, points of the LiDAR on the roof, which sees what cameras see.
        is_seen: Whether a camera sees the object.
    """

    frames: Int64[np.ndarray, " n"]
    types: Int64[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "n 7"]
    camera_boxes: Float64[np.ndarray, "n 7"]
    levels: Int64[np.ndarray, " n"]
    num_points: Int64[np.ndarray, " n"]
    num_top_points: Int64[np.ndarray, " n"]
    is_seen: Bool[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class WaymoLabels:
    """Ground truth that counts; columns as in StatedLabels, but every label has type and level."""

    frames: Int64[np.ndarray, " n"]
    types: Int64[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "n 7"]
    levels: Int64[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class WaymoDetections:
    """Detections; columns as in StatedLabels.

    Attributes:
        scores: In [0, 1], in the single precision of Waymo's files: cut-offs are compared in it.
        is_excused: Whether the box is in a zone without labels, so that it is never false.
    """

    frames: Int64[np.ndarray, " n"]
    types: Int64[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "n 7"]
    scores: Float32[np.ndarray, " n"]
    is_excused: Bool[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class WaymoData:
    """What the metrics are computed from.

    Attributes:
        labels: For the standard metrics.
        camera_labels: For the longitudinal-error-tolerant ones; None where there are labels, but
            none says that a camera sees it.
        detections: For both.
        camera: Where the camera is in the boxes' frame, metres.
        levels: Difficulties that the labels can tell apart: (1, 2), or (1,) without point counts.
    """

    labels: WaymoLabels
    camera_labels: WaymoLabels | None
    detections: WaymoDetections
    camera: Float64[np.ndarray, "3"]
    levels: tuple[int, ...]


def take(columns: Columns, is_taken: Bool[np.ndarray, " n"]) -> Columns:
    """The rows of all columns where `is_taken`."""
    taken = {field.name: getattr(columns, field.name)[is_taken] for field in fields(columns)}
    return type(columns)(**taken)


def standard_labels(stated: StatedLabels) -> WaymoLabels:
    """Labels of Waymo's standard metrics: those with LiDAR points, at their difficulty.

    An annotator's difficulty holds; otherwise a label of at most five points has level 2.
    """
    return _with_levels(stated, stated.boxes, stated.num_points)


def camera_labels(stated: StatedLabels) -> WaymoLabels:
    """Labels of Waymo's metrics for camera detectors: those that a camera and the top LiDAR see."""
    # Who is not seen counts like who has no points: not at all.
    return _with_levels(
        stated, stated.camera_boxes, np.where(stated.is_seen, stated.num_top_points, 0)
    )


def _with_levels(
    stated: StatedLabels, boxes: Float64[np.ndarray, "n 7"], num_points: Int64[np.ndarray, " n"]
) -> WaymoLabels:
    counts = (num_points != 0) & (stated.types >= 0)
    is_sparse = (num_points >= 0) & (num_points <= _MOST_POINTS_OF_LEVEL_2)
    levels = np.where(stated.levels > 0, stated.levels, np.where(is_sparse, 2, 1))
    return WaymoLabels(
        frames=stated.frames[counts],
        types=stated.types[counts],
        boxes=boxes[counts],
        levels=levels[counts],
    )
