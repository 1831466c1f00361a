"""nuScenes detection metrics by nuscenes-devkit's own code (configuration detection_cvpr_2019).

Differs from `DetectionEval` in what is read, not in what is computed: any list of samples can be
evaluated, not only a split, a submission may lie in memory and lack samples, and objects and boxes
can be those that some cameras see. Imports no torch.
"""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import (
    add_center_dist,
    filter_eval_boxes,
    load_gt_of_sample_tokens,
)
from nuscenes.eval.detection.data_classes import (
    DetectionBox,
    DetectionConfig,
    DetectionMetricDataList,
    DetectionMetrics,
)
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.utils.splits import create_splits_scenes
from pyquaternion import Quaternion

from mono3d.codec.nuscenes_names import threshold_name
from mono3d.errors import DataError

_ALL = "all"
_CONFIG = "detection_cvpr_2019"
_TP_NAMES = {
    "trans_err": "ate",
    "scale_err": "ase",
    "orient_err": "aoe",
    "vel_err": "ave",
    "attr_err": "aae",
}


@dataclass(frozen=True, kw_only=True)
class DetectionCurve:
    """A curve of the benchmark at 101 recalls; precision is 0 where no detection reaches."""

    recall: Float[np.ndarray, "101"]
    precision: Float[np.ndarray, "101"]
    confidence: Float[np.ndarray, "101"]
    """Score threshold that gives the recall; 0 where no detection reaches."""

    @property
    def best_threshold(self) -> float:
        """The score above which the harmonic mean of precision and recall is best; 1 if never."""
        f1 = 2 * self.precision * self.recall / np.maximum(self.precision + self.recall, 1e-9)
        return float(self.confidence[f1.argmax()]) if f1.max() > 0 else 1.0


@dataclass(frozen=True, kw_only=True)
class NuScenesMetrics:
    """What the benchmark says of a submission."""

    values: Mapping[str, float]
    """nuscenes_map, nuscenes_nds, nuscenes_m{ate,ase,aoe,ave,aae} and, for each class,
    nuscenes_{class}_ap, nuscenes_{class}_ap_{distance}m, nuscenes_{class}_{ate,...} and
    nuscenes_{class}_threshold: the score above which precision and recall at 2 m are best together.

    Errors that the benchmark does not define for a class are left out. A class without ground
    truth has AP 0 and errors 1, and counts in the means: on few samples both are low by rule.
    """
    curves: Mapping[str, Mapping[float, DetectionCurve]]
    """By class and matching distance in metres."""
    num_ground_truth: Mapping[str, int]
    """Evaluated objects by class: within range, hit by LiDAR or radar, not in a bicycle rack."""
    summary: Mapping[str, Any]
    """What the devkit writes to metrics_summary.json, `meta` excepted."""
    missing_samples: tuple[str, ...]
    """Samples that the submission says nothing of; they count as samples without detections."""


def evaluate_submission(
    content: Mapping[str, Any],
    *,
    root: Path,
    version: str,
    sample_tokens: Sequence[str],
    cameras: Sequence[str] = (),
) -> NuScenesMetrics:
    """Metrics of a submission over some samples.

    Args:
        content: What a submission file holds.
        root: nuScenes folder with the ground truth.
        version: Folder of its tables.
        sample_tokens: What to evaluate on; results of other samples do not count.
        cameras: Count only objects and boxes whose centre is in the image of one of these; none
            named counts all. This is ours: it is how a detector of one camera is measured.

    Raises:
        DataError: If tables cannot be read, lack a sample, or the submission breaks the format.
    """
    nusc = _open_devkit(root, version)
    config = config_factory(_CONFIG)
    results = _results(content, sample_tokens, config.max_boxes_per_sample)
    try:
        with _quiet():
            truth = load_gt_of_sample_tokens(nusc, list(sample_tokens), DetectionBox)
    except KeyError as error:
        raise DataError(f"{root / version}: no sample {error} to evaluate on") from error
    if cameras:
        truth, results = (_seen_by(nusc, cameras, boxes) for boxes in (truth, results))
    run = _BoxesEval(config, *(_filtered(nusc, config, b) for b in (truth, results)))
    metrics, data = run.evaluate()
    curves = _curves(data)
    thresholds = {threshold_name(name): at[2.0].best_threshold for name, at in curves.items()}
    return NuScenesMetrics(
        values=_values(metrics, config) | thresholds,
        curves=curves,
        num_ground_truth=_count_by_class(run.gt_boxes, config),
        summary=metrics.serialize(),
        missing_samples=tuple(t for t in sample_tokens if t not in content["results"]),
    )


def read_submission(path: Path) -> Mapping[str, Any]:
    """A submission file.

    Raises:
        DataError: There is none, or it is not JSON with `results` and `meta`.
    """
    try:
        content: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: submission cannot be read ({error})") from error
    submission: dict[str, Any] = content if isinstance(content, dict) else {}
    for key in ("results", "meta"):
        if not isinstance(submission.get(key), dict):
            raise DataError(f"{path}: a submission is an object with {key!r}, itself an object")
    return submission


def samples_of_split(root: Path, version: str, split: str) -> list[str]:
    """Tokens of the samples of a split: an official one, one of splits.json, or `all`.

    Raises:
        DataError: If tables cannot be read, or there is no such split, or nothing of it.
    """
    nusc = _open_devkit(root, version)
    if split == _ALL:
        return [sample["token"] for sample in nusc.sample]
    scenes: dict[str, list[str]] = create_splits_scenes()
    own = root / version / "splits.json"
    if own.is_file():
        try:
            scenes |= json.loads(own.read_text())
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{own}: splits cannot be read ({error})") from error
    if split not in scenes:
        raise DataError(f"split {split!r}: neither {_ALL!r} nor one of {list(scenes)}")
    wanted = set(scenes[split])
    name_of = {scene["token"]: scene["name"] for scene in nusc.scene}
    tokens = [s["token"] for s in nusc.sample if name_of[s["scene_token"]] in wanted]
    if not tokens:
        raise DataError(f"{root / version}: holds no scene of split {split!r}")
    return tokens


class _BoxesEval(DetectionEval):  # type: ignore[misc]
    """The official evaluation of boxes that are already read."""

    def __init__(self, config: DetectionConfig, gt_boxes: EvalBoxes, pred_boxes: EvalBoxes) -> None:
        self.cfg, self.gt_boxes, self.pred_boxes = config, gt_boxes, pred_boxes
        self.verbose = False


@lru_cache(maxsize=1)
def _open_devkit(root: Path, version: str) -> NuScenes:
    """Tables of the last folder that was evaluated; reading them takes up to a minute."""
    try:
        return NuScenes(version, str(root), verbose=False)
    except (AssertionError, LookupError, ValueError, OSError) as error:
        raise DataError(f"{root / version}: tables cannot be read ({error!r})") from error


def _results(content: Mapping[str, Any], sample_tokens: Sequence[str], max_boxes: int) -> EvalBoxes:
    if not isinstance(content.get("results"), Mapping):
        raise DataError("submission: 'results' must map sample tokens to lists of boxes")
    results = {token: content["results"].get(token, []) for token in sample_tokens}
    for token, boxes in results.items():
        if not isinstance(boxes, list):
            raise DataError(f"submission: sample {token}: {boxes!r} must be a list of boxes")
    crowded = [token for token, boxes in results.items() if len(boxes) > max_boxes]
    if crowded:
        raise DataError(f"submission: sample {crowded[0]} has more than {max_boxes} boxes")
    try:
        return EvalBoxes.deserialize(results, DetectionBox)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"submission: a box breaks the format ({error!r})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The devkit draws a progress bar even when told not to be verbose."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _filtered(nusc: NuScenes, config: DetectionConfig, boxes: EvalBoxes) -> EvalBoxes:
    """Boxes that count; the devkit's filter does not take an empty set."""
    if not boxes.all:
        return boxes
    return filter_eval_boxes(nusc, add_center_dist(nusc, boxes), config.class_range)


def _seen_by(nusc: NuScenes, cameras: Sequence[str], boxes: EvalBoxes) -> EvalBoxes:
    """Boxes whose centre one of the cameras has in its image."""
    seen = EvalBoxes()
    for token in boxes.sample_tokens:
        own = boxes[token]
        centers = np.array([box.translation for box in own]).reshape(-1, 3)
        is_seen = np.any([_is_in_image(nusc, token, camera, centers) for camera in cameras], axis=0)
        seen.add_boxes(token, [box for box, good in zip(own, is_seen, strict=True) if good])
    return seen


def _is_in_image(
    nusc: NuScenes, sample_token: str, camera: str, centers: Float[np.ndarray, "n 3"]
) -> Bool[np.ndarray, " n"]:
    """Which points, in the global frame, a camera sees."""
    data = nusc.get("sample", sample_token)["data"]
    if camera not in data:
        raise DataError(f"sample {sample_token} has no camera {camera}; it has {sorted(data)}")
    picture = nusc.get("sample_data", data[camera])
    sensor = nusc.get("calibrated_sensor", picture["calibrated_sensor_token"])
    points = centers
    for pose in (nusc.get("ego_pose", picture["ego_pose_token"]), sensor):
        points = (points - pose["translation"]) @ Quaternion(pose["rotation"]).rotation_matrix
    depth_m = points[:, 2]
    pixels = (points @ np.array(sensor["camera_intrinsic"]).T)[:, :2] / depth_m[:, None]
    is_inside = (pixels >= 0) & (pixels < [picture["width"], picture["height"]])
    is_seen: np.ndarray = (depth_m > 0) & is_inside.all(axis=1)
    return is_seen


def _values(metrics: DetectionMetrics, config: DetectionConfig) -> dict[str, float]:
    values = {"nuscenes_map": metrics.mean_ap, "nuscenes_nds": metrics.nd_score}
    values |= {f"nuscenes_m{_TP_NAMES[name]}": e for name, e in metrics.tp_errors.items()}
    for name, mean_ap in metrics.mean_dist_aps.items():
        values[f"nuscenes_{name}_ap"] = float(mean_ap)
        for distance in config.dist_ths:
            ap = metrics.get_label_ap(name, distance)
            values[f"nuscenes_{name}_ap_{distance:g}m"] = float(ap)
        for error_name, short in _TP_NAMES.items():
            values[f"nuscenes_{name}_{short}"] = float(metrics.get_label_tp(name, error_name))
    return {name: value for name, value in values.items() if not np.isnan(value)}


def _curves(data: DetectionMetricDataList) -> dict[str, dict[float, DetectionCurve]]:
    curves: dict[str, dict[float, DetectionCurve]] = {}
    for (name, distance), curve in data.md.items():
        curves.setdefault(name, {})[distance] = DetectionCurve(
            recall=curve.recall, precision=curve.precision, confidence=curve.confidence
        )
    return curves


def _count_by_class(boxes: EvalBoxes, config: DetectionConfig) -> dict[str, int]:
    names = [box.detection_name for box in boxes.all]
    return {name: names.count(name) for name in config.class_names}
