"""Waymo's box files: one `Objects` message, of ground truth or of detections.

Only the fields that metrics need are described here, by hand, so that neither generated code nor
Waymo's package is needed. Source: label.proto and metrics.proto of the Waymo Open Dataset.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from jaxtyping import Float64, Int64

from mono3d.errors import DataError
from mono3d.evaluation.waymo_boxes import TYPES, StatedLabels, WaymoDetections

_PACKAGE = "waymo.open_dataset"
_FIELDS = {
    "Box": {
        "center_x": (1, "double"),
        "center_y": (2, "double"),
        "center_z": (3, "double"),
        "width": (4, "double"),
        "length": (5, "double"),
        "height": (6, "double"),
        "heading": (7, "double"),
    },
    "Label": {
        "box": (1, "Box"),
        # Enumerations are read as numbers: one that Waymo adds later is then seen, not dropped.
        "type": (3, "int32"),
        "detection_difficulty_level": (5, "int32"),
        "num_lidar_points_in_box": (7, "int32"),
        "most_visible_camera_name": (11, "string"),
        "camera_synced_box": (12, "Box"),
        "num_top_lidar_points_in_box": (13, "int32"),
    },
    "Object": {
        "object": (1, "Label"),
        "score": (2, "float"),
        "overlap_with_nlz": (3, "bool"),
        "context_name": (4, "string"),
        "frame_timestamp_micros": (5, "int64"),
        "camera_name": (6, "int32"),
    },
    "Objects": {"objects": (1, "Object")},
}
_REPEATED = "objects"


def _objects_class() -> Any:
    """The class of `Objects` messages, in a pool of its own: Waymo's package may be there too."""
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="mono3d_waymo.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, message_fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in message_fields.items():
            repeated = field_name == _REPEATED
            label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            if kind in _FIELDS:
                field.type = field_type.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
            else:
                field.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Objects"))


Objects = _objects_class()
"""Message class of a whole file."""


def read_labels(path: Path, frame_ids: dict[str, int]) -> StatedLabels:
    """Read ground truth.

    Args:
        path: Of the file.
        frame_ids: Index of each frame by its name, `CONTEXT/TIMESTAMP`; new frames are added.

    Raises:
        DataError: The file is missing, cut short or none of Waymo's, a box or a type is none, or no
            label has LiDAR points, without which Waymo's metrics drop it.
    """
    objects = _read(path)
    labels = _labels(path, objects)
    stated = StatedLabels(
        frames=_frames(objects, frame_ids),
        types=_types(path, labels),
        boxes=_boxes(path, (label.box for label in labels), len(labels)),
        camera_boxes=_boxes(path, (label.camera_synced_box for label in labels), len(labels)),
        levels=_integers(label.detection_difficulty_level for label in labels),
        num_points=_integers(label.num_lidar_points_in_box for label in labels),
        num_top_points=_integers(label.num_top_lidar_points_in_box for label in labels),
        is_seen=np.array(
            [
                bool(label.most_visible_camera_name) and label.HasField("camera_synced_box")
                for label in labels
            ],
            dtype=bool,
        ),
    )
    if labels and not stated.num_points.any():
        raise DataError(
            f"{path}: no label has num_lidar_points_in_box; Waymo's metrics leave out labels "
            "without points"
        )
    return stated


def read_detections(path: Path, frame_ids: dict[str, int]) -> WaymoDetections:
    """Read detections; arguments as of `read_labels`.

    Raises:
        DataError: The file is missing, cut short or none of Waymo's, a box or a type is none, or a
            score is missing or outside [0, 1].
    """
    objects = _read(path)
    labels = _labels(path, objects)
    for number, item in enumerate(objects):
        if not item.HasField("score"):
            raise DataError(f"{path}: object {number} has no score; a detection needs one")
        if not 0 <= item.score <= 1:
            raise DataError(f"{path}: object {number} has score {item.score}, not in [0, 1]")
    return WaymoDetections(
        frames=_frames(objects, frame_ids),
        types=_types(path, labels),
        boxes=_boxes(path, (label.box for label in labels), len(labels)),
        scores=np.array([item.score for item in objects], dtype=np.float32),
        is_excused=np.array([item.overlap_with_nlz for item in objects], dtype=bool),
    )


def _read(path: Path) -> Sequence[Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    message = Objects()
    try:
        message.ParseFromString(content)
    except DecodeError:
        raise DataError(
            f"{path}: cut short, or no file of Waymo boxes (an Objects message)"
        ) from None
    if content and not message.objects:
        raise DataError(f"{path}: {len(content)} bytes, but no Waymo box (an Objects message)")
    objects: Sequence[Any] = message.objects
    return objects


def _labels(path: Path, objects: Sequence[Any]) -> list[Any]:
    labels = [item.object for item in objects]
    for number, label in enumerate(labels):
        if not label.HasField("box"):
            raise DataError(f"{path}: object {number} has no box")
    return labels


def _frames(objects: Iterable[Any], frame_ids: dict[str, int]) -> Int64[np.ndarray, " n"]:
    return _integers(frame_ids.setdefault(_frame_name(item), len(frame_ids)) for item in objects)


def _frame_name(item: Any) -> str:
    name = f"{item.context_name}/{item.frame_timestamp_micros}"
    return f"{name}/{item.camera_name}" if item.camera_name else name


def _types(path: Path, labels: Sequence[Any]) -> Int64[np.ndarray, " n"]:
    types = _integers(label.type - 1 for label in labels)
    for number in np.flatnonzero((types < -1) | (types >= len(TYPES)))[:1].tolist():
        raise DataError(
            f"{path}: object {number} has type {labels[number].type}; Waymo's are 0 to {len(TYPES)}"
        )
    return types


def _boxes(path: Path, boxes: Iterable[Any], count: int) -> Float64[np.ndarray, "n 7"]:
    rows = (
        (box.center_x, box.center_y, box.center_z, box.length, box.width, box.height, box.heading)
        for box in boxes
    )
    values: np.ndarray = np.fromiter(rows, dtype=np.dtype((np.float64, 7)), count=count)
    for number in np.flatnonzero(~np.isfinite(values).all(1))[:1].tolist():
        raise DataError(f"{path}: object {number} has a box that is not finite: {values[number]}")
    for number in np.flatnonzero((values[:, 3:6] < 0).any(1))[:1].tolist():
        sizes = values[number, 3:6].tolist()
        raise DataError(f"{path}: object {number} has length, width, height {sizes} below 0")
    return values


def _integers(values: Iterable[int]) -> Int64[np.ndarray, " n"]:
    return np.fromiter(values, dtype=np.int64)
