"""Labels of a data set, submitted as detections: every transform on the way must be right."""

import logging
from pathlib import Path
from typing import Any

import pytest

from mono3d.codec.nuscenes_names import DETECTION_CLASSES
from mono3d.codec.nuscenes_poses import FramePose
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.evaluation.nuscenes import evaluate_detections
from mono3d.structures import Detections
from tests.support.detections import perfect_detections
from tests.support.nuscenes_tables import CLASSES, VERSION, write_tables


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    root = write_tables(tmp_path_factory.mktemp("nuscenes"))
    settings: dict[str, Any] = {"version": VERSION, "split": "all", "class_names": CLASSES}
    return NuScenesDataset(root, **settings, cache_dir=root / "cache")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("ground_truth"))


def poses(dataset: NuScenesDataset) -> dict[str, FramePose]:
    return {frame_id: dataset.pose(index) for index, frame_id in enumerate(dataset.frame_ids)}


def oracle(dataset: NuScenesDataset) -> dict[str, Detections]:
    frames = ((frame.frame_id, frame.boxes_cam) for frame in dataset)
    return {name: perfect_detections(boxes[0]) for name, boxes in frames if boxes is not None}


def test_labels_seen_by_six_cameras_are_a_perfect_submission(
    dataset: NuScenesDataset, root: Path
) -> None:
    metrics = evaluate_detections(
        oracle(dataset), poses(dataset), CLASSES, root=root, version=VERSION
    )
    for name in CLASSES:
        assert metrics.num_ground_truth[name] == 8
        assert metrics.values[f"nuscenes_{name}_ap"] >= 0.99, name
        assert metrics.values[f"nuscenes_{name}_ate"] < 1e-3
        assert metrics.values[f"nuscenes_{name}_ase"] < 1e-5
    assert metrics.values["nuscenes_truck_aoe"] < 0.01
    # Cameras are pitched by a degree, and a box knows its velocity on their ground plane only.
    assert metrics.values["nuscenes_car_ave"] < 0.05
    assert metrics.values["nuscenes_car_aae"] == 0


def test_missing_frames_are_said_and_cost_recall(
    dataset: NuScenesDataset, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    front_only = {n: d for n, d in oracle(dataset).items() if n.endswith("CAM_FRONT")}
    with caplog.at_level(logging.WARNING):
        metrics = evaluate_detections(
            front_only, poses(dataset), CLASSES, root=root, version=VERSION
        )
    assert "20 of 24 frames have no detections" in caplog.text
    assert metrics.values["nuscenes_car_ap"] < 0.5


@pytest.mark.real_data
def test_real_labels_are_a_perfect_submission(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "nuscenes" / "tiny_images"
    version = "v1.0-mini"
    dataset = NuScenesDataset(
        root, version=version, split="all", class_names=DETECTION_CLASSES, cache_dir=tmp_path
    )
    detections = {  # what no sensor hit is no ground truth of the benchmark
        name: said.select(said.boxes.num_points > 0) for name, said in oracle(dataset).items()
    }
    metrics = evaluate_detections(
        detections, poses(dataset), DETECTION_CLASSES, root=root, version=version
    )
    present = [name for name, count in metrics.num_ground_truth.items() if count]
    assert present == ["car", "truck", "pedestrian", "traffic_cone", "barrier"]
    # Two real barriers stand 0.6 m apart on the border of two images and pass for one.
    for name in present:
        assert metrics.values[f"nuscenes_{name}_ap"] >= (0.9 if name == "barrier" else 0.99)
        assert metrics.values[f"nuscenes_{name}_ate"] < 1e-4
