"""KITTI object files: labels, calibrations and sweeps, read strictly; and results, written.

A label's location is the centre of the box's bottom face in the rectified camera frame; ours is the
geometric centre. Everything else (dims as height, width, length; rotation_y) is the same.
Source: the readme of KITTI's object development kit.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mono3d.codec.kitti_results import result_columns
from mono3d.data.files import DataPath, read_points, read_text
from mono3d.errors import DataError
from mono3d.structures import Detections

DONT_CARE = "DontCare"
_LABEL_COLUMNS = 15
_POINT_VALUES = 4
_UNKNOWN_OCCLUSION = 3


@dataclass(frozen=True, kw_only=True)
class KittiLabels:
    """The objects of one label file, in its order, without DontCare regions.

    Attributes:
        types: As written in the file.
        truncated: Share of the object outside the image, 0 to 1; -1 where unknown.
        occluded: 0 fully visible, 1 partly, 2 largely hidden, 3 (or -1) unknown.
        boxes_px: Left, top, right, bottom.
        dims_hwl: Metres.
        centers: Geometric centres in the rectified camera frame, metres.
        yaw: rotation_y, radians.
    """

    types: tuple[str, ...]
    truncated: Float64[np.ndarray, " n"]
    occluded: Int64[np.ndarray, " n"]
    boxes_px: Float64[np.ndarray, "n 4"]
    dims_hwl: Float64[np.ndarray, "n 3"]
    centers: Float64[np.ndarray, "n 3"]
    yaw: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.types)


@dataclass(frozen=True, kw_only=True)
class KittiCalibration:
    """Camera 2 and the Velodyne of one frame.

    Attributes:
        projection: P2: rectified camera coordinates (homogeneous) to pixels.
        cam_from_velo: Velodyne to the rectified camera frame; None in a folder without LiDAR.
    """

    projection: Float64[np.ndarray, "3 4"]
    cam_from_velo: Float64[np.ndarray, "4 4"] | None


def read_labels(path: DataPath) -> KittiLabels:
    """Read a label file; an empty one is a frame without objects.

    Raises:
        DataError: A line has not 15 values, one of them is not a finite number, or a box has no
            size. A 16th value, the score of a result file, is not a label.
    """
    lines = [line.split() for line in read_text(path).splitlines()]
    every = [(number, words) for number, words in enumerate(lines, 1) if words]
    read = [_label_values(path, *line) for line in every]
    is_object = [words[0] != DONT_CARE for _, words in every]
    numbered = list(itertools.compress(every, is_object))
    values = np.array(list(itertools.compress(read, is_object))).reshape(-1, 14)
    for (number, words), dims in zip(numbered, values[:, 7:10].tolist(), strict=True):
        if min(dims) <= 0:
            raise DataError(
                f"{path}:{number}: {words[0]} of height, width and length {dims}: a box needs "
                "sizes above 0"
            )
    centers = values[:, 10:13] - np.array([0.0, 0.5, 0.0]) * values[:, 7:8]
    return KittiLabels(
        types=tuple(words[0] for _, words in numbered),
        truncated=values[:, 0],
        occluded=values[:, 1].astype(np.int64),
        boxes_px=values[:, 3:7],
        dims_hwl=values[:, 7:10],
        centers=centers,
        yaw=values[:, 13],
    )


def _label_values(path: DataPath, number: int, words: Sequence[str]) -> list[float]:
    if len(words) != _LABEL_COLUMNS:
        raise DataError(
            f"{path}:{number}: {len(words)} values; a label has {_LABEL_COLUMNS}, its class first"
        )
    return _numbers(f"{path}:{number}", words[1:])


def _numbers(where: str, words: Iterable[str]) -> list[float]:
    values = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            raise DataError(f"{where}: {word!r} is not a number") from None
        if not np.isfinite(value):
            raise DataError(f"{where}: {word} is not finite")
        values.append(value)
    return values


def visibility_of(occluded: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Visible share of objects by their occlusion level: the middle of what each stands for.

    KITTI's levels are words (fully visible, partly occluded, difficult to see); the shares are
    ours. NaN where unknown.
    """
    shares = np.array([1.0, 0.6, 0.2, np.nan])
    is_known = (occluded >= 0) & (occluded < _UNKNOWN_OCCLUSION)
    visible: np.ndarray = shares[np.where(is_known, occluded, _UNKNOWN_OCCLUSION)]
    return visible


def read_calibration(path: DataPath) -> KittiCalibration:
    """Read a calibration file.

    P2 is needed; R0_rect (or R_rect) and Tr_velo_to_cam (or Tr_velo_cam) may be missing together.

    Raises:
        DataError: P2 is missing, a matrix has a wrong number of values or one that is not finite,
            or a focal length is not above 0.
    """
    entries: dict[str, list[str]] = {}
    for line in read_text(path).splitlines():
        name, colon, values = line.partition(":")
        if colon:
            entries[name.strip()] = values.split()
    projection = _matrix(path, entries, ("P2",), (3, 4))
    if projection is None:
        raise DataError(f"{path}: no P2, the projection of the left colour camera")
    if min(projection[0, 0], projection[1, 1]) <= 0 or not np.allclose(
        projection[2, :3], [0, 0, 1]
    ):
        raise DataError(
            f"{path}: P2 {projection.tolist()}: focal lengths must be above 0 and the last row "
            "0 0 1 t"
        )
    rectify = _matrix(path, entries, ("R0_rect", "R_rect"), (3, 3))
    velo = _matrix(path, entries, ("Tr_velo_to_cam", "Tr_velo_cam"), (3, 4))
    if rectify is None or velo is None:
        return KittiCalibration(projection=projection, cam_from_velo=None)
    cam_from_velo = np.eye(4)
    cam_from_velo[:3] = rectify @ velo
    return KittiCalibration(projection=projection, cam_from_velo=cam_from_velo)


def _matrix(
    path: DataPath, entries: Mapping[str, list[str]], names: Sequence[str], shape: tuple[int, int]
) -> Float64[np.ndarray, "_ _"] | None:
    """The first of the entries that there is."""
    for name in names:
        if name not in entries:
            continue
        values = _numbers(f"{path}: {name}", entries[name])
        if len(values) != shape[0] * shape[1]:
            wanted = f"{shape[0]}x{shape[1]}"
            raise DataError(f"{path}: {name} has {len(values)} values; it is a {wanted} matrix")
        return np.array(values).reshape(shape)
    return None


def read_velodyne(path: DataPath) -> Float[np.ndarray, "n 4"]:
    """Read a sweep: x forward, y left, z up in metres, and intensity in [0, 1].

    Raises:
        DataError: The file is missing, cut short, or holds numbers that are not finite.
    """
    return read_points(path, _POINT_VALUES)


def result_lines(
    detections: Detections,
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
    class_names: Sequence[str],
) -> list[str]:
    """Detections of one image as lines of a KITTI result file, best score first.

    Truncation and occlusion are -1: a result does not say them. The rectangle is the hull of the
    projected box inside the image; detections without one there are left out.

    Args:
        detections: In the rectified camera frame.
        projection: P2.
        image_size: Height and width in pixels.
        class_names: Class of each label.
    """
    columns, is_seen = result_columns(detections, projection, image_size)
    return [
        f"{class_names[label]} -1 -1 {' '.join(f'{value:.2f}' for value in row)} {score:.4f}"
        for label, row, score, seen in zip(
            detections.boxes.labels.tolist(),
            columns.tolist(),
            detections.scores.tolist(),
            is_seen.tolist(),
            strict=True,
        )
        if seen
    ]
