"""Detections of nuScenes frames → merged cameras → submission → official metrics."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mono3d.codec.nuscenes_names import CAMERAS
from mono3d.codec.nuscenes_poses import FramePose
from mono3d.evaluation.nuscenes_merge import merge_cameras
from mono3d.evaluation.nuscenes_submission import submission
from mono3d.structures import Detections

if TYPE_CHECKING:
    from mono3d.evaluation.nuscenes_devkit import NuScenesMetrics

_logger = logging.getLogger(__name__)


def merge_samples(
    detections: Mapping[str, Detections],
    poses: Mapping[str, FramePose],
    class_names: Sequence[str],
) -> dict[str, Detections]:
    """Detections of each sample in the global frame, by sample token.

    Args:
        detections: By frame id, each of one camera, in its frame. Frames that are missing count as
            frames without detections; how many is logged.
        poses: Of every frame that is to be evaluated, by frame id; others do not count.
        class_names: The run's classes, in the order of labels.
    """
    by_sample: dict[str, list[tuple[Detections, FramePose]]] = {}
    for frame_id, pose in poses.items():
        views = by_sample.setdefault(pose.sample_token, [])
        if frame_id in detections:
            views.append((detections[frame_id], pose))
    missing = len(poses.keys() - detections.keys())
    if missing:
        _logger.warning("%d of %d frames have no detections", missing, len(poses))
    return {token: merge_cameras(views, class_names) for token, views in by_sample.items()}


def evaluate_detections(
    detections: Mapping[str, Detections],
    poses: Mapping[str, FramePose],
    class_names: Sequence[str],
    *,
    root: Path,
    version: str,
    cameras: Sequence[str] = CAMERAS,
) -> "NuScenesMetrics":
    """Official metrics of detections over the samples of `poses`; see `merge_samples`.

    Args:
        detections: By frame id.
        poses: By frame id.
        class_names: The run's classes, in the order of labels.
        root: nuScenes folder with the ground truth.
        version: Folder of its tables.
        cameras: Those of the frames. If they are not all, only what they see is measured.

    Raises:
        DataError: If tables cannot be read or lack a sample.
    """
    from mono3d.evaluation.nuscenes_devkit import evaluate_submission  # seconds to import

    merged = merge_samples(detections, poses, class_names)
    content = submission(merged, class_names)
    seen_by = () if set(cameras) >= set(CAMERAS) else cameras
    return evaluate_submission(
        content, root=root, version=version, sample_tokens=list(merged), cameras=seen_by
    )
