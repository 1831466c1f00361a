"""Real KITTI frames: learnt by heart, the boxes lie where the cars are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mono3d.config.load import load_recipe
from mono3d.data.kitti import KittiDataset
from mono3d.data.kitti_format import read_labels
from mono3d.geometry.box_iou import footprints_cam
from mono3d.geometry.fast_iou import pairwise_bev_iou
from mono3d.structures import Boxes3D
from mono3d.training.local import train_locally
from mono3d.training.predict import Detector

WHOLE = ("000006", "000008", "000010", "000036", "000038", "000142")
"""Frames that nobody has cropped, with more than one moderate car."""
CAR = 0


def is_moderate(root: Path, name: str) -> np.ndarray:
    """KITTI's rule: at least 25 px high, at most partly occluded, at most 0.3 truncated."""
    labels = read_labels(root / "training" / "label_2" / f"{name}.txt")
    height_px = labels.boxes_px[:, 3] - labels.boxes_px[:, 1]
    easy_to_see = (height_px >= 25) & (labels.occluded <= 1) & (labels.truncated <= 0.3)
    return easy_to_see & np.array([kind == "Car" for kind in labels.types])


def best_overlaps(truth: Boxes3D, found: Boxes3D) -> torch.Tensor:
    """Of each true box with the found one that covers it best, in bird's-eye view."""
    if not len(found):
        return torch.zeros(len(truth))
    footprints = [footprints_cam(b.centers, b.dims_hwl, b.yaw)[0] for b in (truth, found)]
    return torch.from_numpy(pairwise_bev_iou(*(f.double().numpy() for f in footprints))).amax(-1)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(2400)
def test_cars_learnt_by_heart_overlap_in_birds_eye_view(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least 90 % of the moderate cars with an IoU of 0.7 or more; all when it was measured."""
    root = real_data / "kitti"
    monkeypatch.chdir(tmp_path)
    Path("few.txt").write_text("\n".join(WHOLE))
    frames = ["data.train_split=few.txt", "data.val_split=few.txt"]
    place = f"data.root={root}", "train.threads_per_worker=1"
    shorter = "train.epochs=110", "evaluation.every_epochs=110"
    config = load_recipe("kitti_overfit", [*place, *frames, *shorter])
    result = train_locally(config, name="by-heart")
    assert result.metrics["val/centers_depth_abs_rel"] < 0.03
    detector = Detector.load(result.best_checkpoint)
    dataset = KittiDataset(root, split="few.txt", class_names=detector.class_names)
    overlaps = []
    for index, name in enumerate(WHOLE):
        frame = dataset[index]
        assert frame.boxes_cam is not None
        found = detector.detect(frame, min_score=0.1).boxes
        truth = frame.boxes_cam[0]
        moderate = torch.from_numpy(is_moderate(root, name))[truth.object_ids]
        cars = found.select((found.labels == CAR).nonzero()[:, 0])
        overlaps.append(best_overlaps(truth.select(moderate.nonzero()[:, 0]), cars))
    share = (torch.cat(overlaps) >= 0.7).float().mean().item()
    assert len(torch.cat(overlaps)) == 25
    assert share >= 0.9
