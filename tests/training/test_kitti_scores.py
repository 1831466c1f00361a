"""From a run's answers to KITTI's metric: alone, merged, with oracles, and in tables."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mono3d.cli.score_tables import depth_cells, kitti_classes
from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.data.sampling import FrameDataset
from mono3d.errors import DataError
from mono3d.evaluation.depth_quality import match_in_image, pair_depths
from mono3d.training.datasets import build_dataset
from mono3d.training.evaluate import Evaluation, FrameAnswer, oracle_scores, score
from tests.support.detections import perfect_detections
from tests.support.kitti_folder import IMAGE_SIZE, write_kitti

CAR = "Car 0 0 0.03 600 150 900 300 1.50 1.60 4.00 3.00 1.60 15.00 0.23\n"
COUNT = 41
"""Frames of a car each: with fewer no detector reaches a hundred."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = write_kitti(tmp_path / "kitti")
    names = [f"{number:06d}" for number in range(100, 100 + COUNT)]
    for part, ending in (("image_2", "png"), ("calib", "txt"), ("velodyne", "bin")):
        folder = root / "training" / part
        for name in names:
            os.link(folder / f"000000.{ending}", folder / f"{name}.{ending}")
    for name in names:
        (root / "training" / "label_2" / f"{name}.txt").write_text(CAR)
    (root / "ImageSets" / "val.txt").write_text("\n".join(names))
    return root


def config_of(*overrides: str) -> RunConfig:
    by_depth = ("checkpoint.metric=val/centers_depth_abs_rel", "checkpoint.mode=min")
    return load_recipe("kitti_overfit", [*by_depth, *overrides])


def answers(dataset: FrameDataset, further_m: float) -> list[FrameAnswer]:
    """What the labels say, so much further away, where they are seen."""
    found = []
    for index, frame_id in enumerate(dataset.frame_ids):
        ((truth, projection),) = dataset.camera_labels(index)
        share = 1 + further_m / truth.centers[:, 2:]
        moved = replace(truth, centers=truth.centers * share)
        detections = perfect_detections(moved)
        found.append(
            FrameAnswer(
                frame_id=frame_id,
                detections=detections,
                centers=pair_depths(moved.centers[:, 2], truth),
                matched=match_in_image(detections, truth, projection, IMAGE_SIZE),
            )
        )
    return found


def evaluated(config: RunConfig, dataset: FrameDataset, given: Sequence[FrameAnswer]) -> Evaluation:
    return score(config, dataset, given, range(len(dataset)))


def test_perfect_answers_score_a_hundred_and_shifted_ones_less(root: Path) -> None:
    config = config_of(f"data.root={root}", "data.val_split=val")
    dataset = build_dataset(config, "val")
    perfect = evaluated(config, dataset, answers(dataset, 0.0))
    assert perfect.metrics["kitti_Car_3d_moderate"] == pytest.approx(100)
    assert perfect.curves["Car"].average_precision == pytest.approx(1)
    assert perfect.metrics["kitti_Pedestrian_3d_moderate"] == 0
    shifted = evaluated(config, dataset, answers(dataset, 2.0))
    assert shifted.metrics["kitti_Car_3d_moderate"] == 0
    oracles = oracle_scores(config, dataset, shifted, ["depth", "size"])
    assert oracles["depth"]["kitti_Car_3d_moderate"] == pytest.approx(100, abs=3)
    assert oracles["size"]["kitti_Car_3d_moderate"] == 0


def test_each_set_of_merged_data_is_measured_by_its_own_benchmark(root: Path) -> None:
    sets = f"{{kitti_a: {{kind: kitti, root: {root}, label_map: {{Car: vehicle}}}}}}"
    data = f"data={{kind: merged, class_names: [vehicle], sets: {sets}}}"
    config = config_of(data, "data.mean_dims_hwl={vehicle: [1.5, 1.6, 4.0]}")
    dataset = build_dataset(config, "val")
    metrics = evaluated(config, dataset, answers(dataset, 0.0)).metrics
    assert metrics["kitti_a/kitti_vehicle_3d_moderate"] == pytest.approx(100)
    assert not any(name.startswith("kitti_3d") for name in metrics)


def test_tables_name_classes_and_cells(root: Path) -> None:
    config = config_of(f"data.root={root}", "data.val_split=val")
    dataset = build_dataset(config, "val")
    metrics = evaluated(config, dataset, answers(dataset, 0.3)).metrics
    classes = list(kitti_classes(metrics).columns[0].cells)
    assert classes == ["Car", "Pedestrian", "Cyclist", "mean"]
    cells = list(depth_cells(metrics).columns[0].cells)
    assert cells == ["all", "Car", "10_20m", "visible_80_100"]
    dense = {"dense_depth_abs_rel": 0.1, "dense_depth_abs_rel_10_20m": 0.2}
    assert list(depth_cells(dense).columns[0].cells) == ["all", "10_20m"]


def test_a_split_without_sweeps_says_how_to_do_without(root: Path) -> None:
    (root / "training" / "velodyne" / "000100.bin").unlink()
    place = (f"data.root={root}", "data.val_split=val", "model.has_depth_map=true")
    with pytest.raises(Exception, match=r"000100\.bin: .*; evaluation\.depth_map=false evaluates"):
        build_dataset(config_of(*place), "val")
    assert len(build_dataset(config_of(*place, "evaluation.depth_map=false"), "val")) == COUNT


def test_a_broken_image_is_not_blamed_on_lidar(root: Path) -> None:
    """Nor does it help to know of LiDAR where both are missing."""
    image = root / "training" / "image_2" / "000100.png"
    image.unlink()
    image.write_bytes(b"no picture")
    place = (f"data.root={root}", "data.val_split=val", "model.has_depth_map=true")
    for _ in range(2):
        with pytest.raises(DataError, match=r"000100\.png") as caught:
            build_dataset(config_of(*place), "val")
        assert "depth_map" not in str(caught.value)
        (root / "training" / "velodyne" / "000100.bin").unlink(missing_ok=True)
