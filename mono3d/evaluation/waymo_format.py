"""Ground truth and detections for Waymo's metrics, from protobuf files or folders of KITTI text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from mono3d.errors import DataError
from mono3d.evaluation import waymo_kitti, waymo_protobuf
from mono3d.evaluation.kitti_tables import frame_names
from mono3d.evaluation.waymo_boxes import (
    StatedLabels,
    WaymoData,
    WaymoDetections,
    camera_labels,
    standard_labels,
    take,
)

VEHICLE_CAMERA = np.array([1.43, 0.0, 2.18])
"""Mean place of the cameras in the vehicle frame, metres, by Waymo's tool for camera detectors."""


def read_waymo(ground_truth: Path, detections: Path, frame_list: Path | None = None) -> WaymoData:
    """Read ground truth and detections, both in protobuf files or both in folders of KITTI text.

    Args:
        ground_truth: A file of one Waymo `Objects` message, or a folder of KITTI labels, whose
            optional 16th value is the number of LiDAR points in the box. Without it nobody can
            tell level 2 from level 1, and all labels are taken as level 1.
        detections: Of the same format. Frames of the folder without ground truth do not count.
        frame_list: Text file with the name of one frame on each line: of KITTI files without
            `.txt`, of messages `CONTEXT/TIMESTAMP`. Without it all frames of the ground truth
            folder count, or all that either protobuf file names.

    Raises:
        DataError: A file is missing or breaks its format, the formats differ, or a listed frame is
            listed twice or in no file.
    """
    for path in (ground_truth, detections):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
    if ground_truth.is_dir() != detections.is_dir():
        raise DataError(
            f"{ground_truth} and {detections}: one is a folder of KITTI text, the other a file; "
            "their boxes are in different coordinate frames"
        )
    if ground_truth.is_dir():
        frames = frame_names(ground_truth, frame_list)
        stated = waymo_kitti.read_labels(ground_truth, frames)
        return _data(stated, waymo_kitti.read_detections(detections, frames), camera=np.zeros(3))
    frame_ids: dict[str, int] = {}
    stated = waymo_protobuf.read_labels(ground_truth, frame_ids)
    detected = waymo_protobuf.read_detections(detections, frame_ids)
    if frame_list is not None:
        listed = _ids(frame_names(ground_truth, frame_list), frame_ids, ground_truth)
        stated = take(stated, np.isin(stated.frames, listed))
        detected = take(detected, np.isin(detected.frames, listed))
    return _data(stated, detected, camera=VEHICLE_CAMERA)


def _data(
    stated: StatedLabels, detections: WaymoDetections, camera: Float64[np.ndarray, "3"]
) -> WaymoData:
    can_tell_levels = bool((stated.num_points >= 0)[stated.types >= 0].all())
    names_cameras = bool(stated.is_seen.any() or not len(stated.is_seen))
    return WaymoData(
        labels=standard_labels(stated),
        camera_labels=camera_labels(stated) if names_cameras else None,
        detections=take(detections, detections.types >= 0),
        camera=camera,
        levels=(1, 2) if can_tell_levels else (1,),
    )


def _ids(frames: Sequence[str], frame_ids: Mapping[str, int], ground_truth: Path) -> list[int]:
    for name in frames:
        if name not in frame_ids:
            raise DataError(f"{ground_truth}: no object of the listed frame {name}")
    return [frame_ids[name] for name in frames]
