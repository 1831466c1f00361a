"""KITTI text of labels and detections, as columns for Waymo's metrics.

A label may have a 16th value, the number of LiDAR points in its box, where a result has its score.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mono3d.errors import DataError
from mono3d.evaluation.kitti_tables import LABEL_COLUMNS, RESULT_COLUMNS, KittiTable, read_table
from mono3d.evaluation.waymo_boxes import StatedLabels, WaymoDetections

_TYPES = {"vehicle": 0, "car": 0, "van": 0, "truck": 0, "pedestrian": 1, "sign": 2, "cyclist": 3}
"""Index into waymo_boxes.TYPES by KITTI's class in lower case; other classes are no Waymo type."""
_UNKNOWN = -1


def read_labels(folder: Path, frames: Sequence[str]) -> StatedLabels:
    """Read ground truth. Every object counts as seen, and as labelled when its camera saw it.

    Args:
        folder: With FRAME.txt for each frame.
        frames: Names of the frames; a label's frame is an index into them.

    Raises:
        DataError: A file is missing or broken, lines have 15 values here and 16 there, a size is
            below 0, or a number of points is no whole number.
    """
    has_points = _num_columns(folder, frames) == RESULT_COLUMNS
    table = read_table(folder, frames, RESULT_COLUMNS if has_points else LABEL_COLUMNS)
    types = _types(table)
    boxes = _boxes(table, types, folder, frames)
    # The table keeps the 16th value as it would a score.
    num_points = table.scores if has_points else np.full(len(types), _UNKNOWN)
    if has_points:
        is_wrong = (types >= 0) & ((num_points < 0) | (num_points % 1 > 0))
        _refuse(is_wrong, num_points, "is no number of LiDAR points", table, folder, frames)
    return StatedLabels(
        frames=_frames(table),
        types=types,
        boxes=boxes,
        camera_boxes=boxes,
        levels=np.zeros(len(types), dtype=np.int64),
        num_points=num_points.astype(np.int64),
        num_top_points=num_points.astype(np.int64),
        is_seen=np.ones(len(types), dtype=bool),
    )


def read_detections(folder: Path, frames: Sequence[str]) -> WaymoDetections:
    """Read detections; an empty file is a frame without any. Arguments as of `read_labels`.

    Raises:
        DataError: A file is missing or broken, a size is below 0, or a score is outside [0, 1].
    """
    table = read_table(folder, frames, RESULT_COLUMNS)
    types = _types(table)
    is_wrong = (types >= 0) & ((table.scores < 0) | (table.scores > 1))
    _refuse(is_wrong, table.scores, "is no score in [0, 1]", table, folder, frames)
    return WaymoDetections(
        frames=_frames(table),
        types=types,
        boxes=_boxes(table, types, folder, frames),
        scores=table.scores.astype(np.float32),
        is_excused=np.zeros(len(types), dtype=bool),
    )


def _num_columns(folder: Path, frames: Sequence[str]) -> int:
    """Values of the first line of all files; 0 where there is none."""
    for name in frames:
        path = folder / f"{name}.txt"
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        for words in filter(None, map(str.split, lines)):
            return len(words)
    return 0


def _frames(table: KittiTable) -> Int64[np.ndarray, " n"]:
    return np.repeat(np.arange(len(table.starts) - 1), np.diff(table.starts))


def _types(table: KittiTable) -> Int64[np.ndarray, " n"]:
    return np.array([_TYPES.get(kind, _UNKNOWN) for kind in table.types.tolist()], dtype=np.int64)


def _boxes(
    table: KittiTable, types: Int64[np.ndarray, " n"], folder: Path, frames: Sequence[str]
) -> Float64[np.ndarray, "n 7"]:
    """Boxes in x forward, y left, z up, around the camera."""
    is_wrong = (types >= 0) & (table.dims_hwl < 0).any(1)
    _refuse(is_wrong, table.dims_hwl, "are no height, width, length", table, folder, frames)
    height, width, length = table.dims_hwl.T
    right, down, forward = table.bottoms.T
    # rotation_y turns about the axis down, and is 0 for facing right.
    heading = -table.yaw - np.pi / 2
    return np.stack([forward, -right, height / 2 - down, length, width, height, heading], axis=1)


def _refuse(
    is_wrong: Bool[np.ndarray, " n"],
    values: Float64[np.ndarray, "n ..."],
    rule: str,
    table: KittiTable,
    folder: Path,
    frames: Sequence[str],
) -> None:
    """Raise if anything is wrong, naming the first of it."""
    for row in np.flatnonzero(is_wrong)[:1].tolist():
        frame = int(np.searchsorted(table.starts, row, side="right")) - 1
        where = f"{folder / frames[frame]}.txt: object {row - table.starts[frame] + 1}"
        raise DataError(f"{where}: {values[row].tolist()} {rule}")
