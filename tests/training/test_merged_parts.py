"""A run on several data sets: what it trains on, and how it is measured."""

from collections import Counter
from typing import Any

import pytest
import torch

from mono3d.config.schema import RunConfig
from mono3d.data.merged import MergedDataset
from mono3d.training.assembly import build_loader
from mono3d.training.datasets import SPLITS, build_dataset, split_records
from mono3d.training.evaluate import evaluate_split
from mono3d.training.loop import train_step
from mono3d.training.parts import Place, RunParts, build_parts
from tests.support.merged_data import write_merged
from tests.support.training import tiny_config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_merged(tmp_path_factory.mktemp("merged"))


def config_of(data: dict[str, Any], **overrides: object) -> RunConfig:
    settings = {"checkpoint__metric": "val/nus/nuscenes_map", "input__max_objects": 16}
    return tiny_config(data=data, **{**settings, **overrides})


@pytest.fixture(scope="module")
def parts(data: dict[str, Any]) -> RunParts:
    return build_parts(config_of(data), Place())


def test_each_split_has_the_sets_that_name_one(data: dict[str, Any]) -> None:
    train, val = (build_dataset(config_of(data), split) for split in SPLITS)
    assert isinstance(train, MergedDataset)
    assert isinstance(val, MergedDataset)
    assert {name: len(part) for name, part in train.members.items()} == {
        "kitti": 3, "nus": 12, "raw": 1,
    }  # fmt: skip
    assert {name: len(part) for name, part in val.members.items()} == {"kitti": 2, "nus": 12}
    assert train.frame_labels(15) is None
    assert train[15].boxes_bev is None
    assert train[1].boxes_bev is not None
    assert float(train[1].boxes_bev.centers[0, 2]) == pytest.approx(1.73 - 1.60 - 0.075 + 1.05)


def test_every_set_is_on_the_record(data: dict[str, Any]) -> None:
    config = config_of(data)
    train = split_records(config.data, "train", build_dataset(config, "train"))
    val = split_records(config.data, "val", build_dataset(config, "val"))
    assert [record.name for record in (*train, *val)] == [
        "kitti/kitti/all", "nus/v1.0-tiny/tiny_train", "raw/kitti/test", "kitti/kitti/train",
        "nus/v1.0-tiny/tiny_val",
    ]  # fmt: skip
    assert len({record.fingerprint for record in (*train, *val)}) == 5
    assert train[1].source == data["sets"]["nus"]["root"]


def test_a_batch_of_labelled_and_unlabelled_frames_is_learnt_from(parts: RunParts) -> None:
    frames: list[str] = []
    labelled: list[bool] = []
    for batch in parts.loader.epoch(0):
        frames += batch.frame_ids
        labelled += batch.has_labels.tolist()
        output = train_step(
            parts.state, [batch], max_grad_norm=35.0, progress=0.0, with_statistics=False
        )
        assert torch.stack(list(output.terms.values())).isfinite().all()
    assert len(frames) == 16
    assert [name.partition("/")[0] != "raw" for name in frames] == labelled
    assert not all(labelled)
    assert parts.state.skipped == 0


def test_shares_of_the_sets_reach_the_loader(data: dict[str, Any]) -> None:
    shares = {"kitti": 2, "nus": 1, "raw": 1}
    sets = {name: {**data["sets"][name], "share": share} for name, share in shares.items()}
    config = config_of({**data, "sets": sets}, input__empty_frame_share=0.0)
    loader = build_loader(config, build_dataset(config, "train"), rank=0, world_size=1)
    drawn = [name for batch in loader.epoch(0) for name in batch.frame_ids]
    counts = Counter(name.partition("/")[0] for name in drawn)
    assert counts == {"kitti": 8, "nus": 4, "raw": 4}
    assert "kitti/000002" not in drawn, "it is empty"


def test_all_of_it_and_each_set_are_measured(parts: RunParts) -> None:
    metrics = parts.evaluate(parts.state)
    assert "val/nus/nuscenes_map" in metrics
    assert not [name for name in metrics if name.startswith(("val/nuscenes", "val/kitti/nuscenes"))]
    every, kitti, nuscenes = (
        metrics[f"val/{part}centers_depth_abs_rel"] for part in ("", "kitti/", "nus/")
    )
    assert min(kitti, nuscenes) < every < max(kitti, nuscenes)


def test_a_part_of_the_split_is_a_part_of_each_set(data: dict[str, Any], parts: RunParts) -> None:
    config = config_of(data)
    evaluation = evaluate_split(
        config, parts.state.train_module.student, None, build_dataset(config, "val"), max_frames=5
    )
    asked = sorted(answer.frame_id for answer in evaluation.answers)
    assert asked == [
        "kitti/000000", "kitti/000001", "nus/scene-b-sample-0-CAM_FRONT",
        "nus/scene-b-sample-0-CAM_FRONT_RIGHT",
    ]  # fmt: skip


def test_classes_of_ones_own_are_measured_by_depth_alone(data: dict[str, Any]) -> None:
    sizes = {"vehicle": [1.7, 1.9, 4.6], "person": [1.76, 0.67, 0.8]}
    nuscenes = {
        **{key: value for key, value in data["sets"]["nus"].items() if key != "label_map"},
        "class_names": ["vehicle", "person"],
        "label_map": {"car": "vehicle", "truck": "vehicle", "human.pedestrian.adult": "person"},
        "mean_dims_hwl": sizes,
    }
    config = tiny_config(data=nuscenes, checkpoint__metric="val/centers_depth_abs_rel")
    parts = build_parts(config, Place())
    metrics = parts.evaluate(parts.state)
    assert "val/centers_depth_abs_rel_vehicle" in metrics
    assert not [name for name in metrics if "nuscenes" in name]
