import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
from nuscenes.eval.detection.config import config_factory
from nuscenes.eval.detection.data_classes import DetectionMetrics
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import get_scenes_of_split

from mono3d.data.synthetic.catalogue import CLASSES
from mono3d.data.synthetic.folder import RECORD_NAME
from mono3d.data.synthetic.nuscenes_folder import (
    TRAIN_SPLIT,
    VAL_SPLIT,
    SyntheticConfig,
    write_nuscenes,
)
from mono3d.data.synthetic.nuscenes_tables import TABLE_NAMES
from mono3d.errors import DataError


@pytest.fixture(scope="module")
def nusc(tiny_root: Path, tiny_config: SyntheticConfig) -> NuScenes:
    return NuScenes(tiny_config.version, str(tiny_root), verbose=False)


def _digest(root: Path) -> str:
    """Of the name and the bytes of every file."""
    summary = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            summary.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return summary.hexdigest()


def test_folder_holds_the_thirteen_tables_and_the_custom_splits(
    nusc: NuScenes, tiny_root: Path, tiny_config: SyntheticConfig
) -> None:
    names = {path.stem for path in (tiny_root / tiny_config.version).iterdir()}
    assert names == {*TABLE_NAMES, "splits"}
    assert len(TABLE_NAMES) == 13
    assert get_scenes_of_split(TRAIN_SPLIT, nusc) == ["synth-train-0000"]
    assert get_scenes_of_split(VAL_SPLIT, nusc) == ["synth-val-0000", "synth-val-0001"]


def test_every_blob_is_there_and_pictures_have_the_size_the_tables_say(
    nusc: NuScenes, tiny_root: Path
) -> None:
    assert len(nusc.sample) == 6
    for blob in nusc.sample_data:
        path = tiny_root / blob["filename"]
        assert path.is_file()
        if blob["fileformat"] == "jpg":
            assert cv2.imread(str(path)).shape == (blob["height"], blob["width"], 3)


def test_chains_of_samples_blobs_and_labels_are_closed(nusc: NuScenes) -> None:
    for table in ("sample", "sample_data", "sample_annotation"):
        for row in getattr(nusc, table):
            if row["next"]:
                after = nusc.get(table, row["next"])
                assert after["prev"] == row["token"]
    for instance in nusc.instance:
        row, steps = nusc.get("sample_annotation", instance["first_annotation_token"]), 1
        while row["next"]:
            row, steps = nusc.get("sample_annotation", row["next"]), steps + 1
        assert row["token"] == instance["last_annotation_token"]
        assert steps == instance["nbr_annotations"]


def test_ego_car_drives_on_the_map_mask(nusc: NuScenes) -> None:
    for scene in nusc.scene:
        mask = nusc.get("map", nusc.get("log", scene["log_token"])["map_token"])["mask"]
        sample = nusc.get("sample", scene["first_sample_token"])
        blob = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        x, y, _ = nusc.get("ego_pose", blob["ego_pose_token"])["translation"]
        assert mask.is_on_mask(x, y).all()
        assert not mask.is_on_mask(1.0, 1.0).all()


def test_focal_lengths_have_nuscenes_spread_and_differ_between_scenes(nusc: NuScenes) -> None:
    focal: dict[str, list[float]] = {}
    for row in nusc.calibrated_sensor:
        channel = nusc.get("sensor", row["sensor_token"])["channel"]
        if row["camera_intrinsic"]:
            focal.setdefault(channel, []).append(row["camera_intrinsic"][0][0])
    assert len(focal) == 6
    assert len({round(value, 3) for value in focal["CAM_FRONT"]}) == 3
    for front, back in zip(focal["CAM_FRONT"], focal["CAM_BACK"], strict=True):
        assert back / front == pytest.approx(809 / 1266, rel=0.04)


def test_rare_classes_appear_in_validation(nusc: NuScenes) -> None:
    """All of them are put into two scenes, but one may hide behind something else."""
    validation = set(get_scenes_of_split(VAL_SPLIT, nusc))
    found = set()
    for row in nusc.sample_annotation:
        sample = nusc.get("sample", row["sample_token"])
        if nusc.get("scene", sample["scene_token"])["name"] in validation:
            found.add(category_to_detection_name(row["category_name"]))
    promised = {"bus", "bicycle", "trailer", "construction_vehicle", "motorcycle"}
    assert len(promised & found) >= 4
    assert "car" in found
    assert found <= {kind.name for kind in CLASSES}


def test_same_settings_find_the_folder_again(tiny_root: Path, tiny_config: SyntheticConfig) -> None:
    before = _digest(tiny_root)
    summary = write_nuscenes(tiny_root, tiny_config, num_processes=1)
    assert not summary.is_new
    assert summary.num_samples == {TRAIN_SPLIT: 2, VAL_SPLIT: 4}
    assert summary.num_images == 36
    assert sum(summary.num_labels.values()) == len(_table(tiny_root, "sample_annotation"))
    assert _digest(tiny_root) == before


def _table(root: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((root / "v1.0-synth" / f"{name}.json").read_text())
    return rows


def test_other_settings_refuse_the_folder_in_one_line(
    tiny_root: Path, tiny_config: SyntheticConfig
) -> None:
    with pytest.raises(DataError, match=r"synthetic\.json.*\"seed\": 7.*\"seed\": 8") as error:
        write_nuscenes(tiny_root, replace(tiny_config, seed=8), num_processes=1)
    assert "\n" not in str(error.value)


def test_no_validation_scene_is_an_error(tmp_path: Path, tiny_config: SyntheticConfig) -> None:
    with pytest.raises(ValueError, match="positive"):
        write_nuscenes(tmp_path / "data", replace(tiny_config, val_scenes=0), num_processes=1)


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, tiny_config: SyntheticConfig) -> None:
    def interrupt(done: int, total: int) -> None:
        assert (done, total) == (6, 6)
        raise KeyboardInterrupt

    config = replace(tiny_config, train_scenes=0, val_scenes=1, samples_per_scene=1)
    with pytest.raises(KeyboardInterrupt):
        write_nuscenes(tmp_path / "data", config, num_processes=1, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_seed_decides_every_byte(tmp_path: Path, tiny_config: SyntheticConfig) -> None:
    config = replace(tiny_config, train_scenes=0, val_scenes=1, samples_per_scene=1)
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_nuscenes(tmp_path / name, replace(config, seed=seed), num_processes=1)
        (tmp_path / name / RECORD_NAME).unlink()
        digests.append(_digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
def test_number_of_processes_changes_no_byte(
    tmp_path: Path, tiny_root: Path, tiny_config: SyntheticConfig
) -> None:
    write_nuscenes(tmp_path / "data", tiny_config, num_processes=2)
    assert _digest(tmp_path / "data") == _digest(tiny_root)


@pytest.mark.slow
def test_perfect_detections_have_full_score_where_a_class_is_present(
    nusc: NuScenes, tmp_path: Path
) -> None:
    results: dict[str, list[dict[str, Any]]] = {}
    for sample in nusc.sample:
        if "val" in nusc.get("scene", sample["scene_token"])["name"]:
            # The benchmark drops labels without points, so finding those would be a mistake.
            results[sample["token"]] = [
                _perfect(nusc, token)
                for token in sample["anns"]
                if nusc.get("sample_annotation", token)["num_lidar_pts"] > 0
            ]
    path = tmp_path / "results.json"
    meta = {f"use_{name}": False for name in ("lidar", "radar", "map", "external")}
    path.write_text(json.dumps({"meta": meta | {"use_camera": True}, "results": results}))
    evaluation = DetectionEval(
        nusc, config_factory("detection_cvpr_2019"), str(path), VAL_SPLIT, str(tmp_path), False
    )
    metrics: DetectionMetrics = evaluation.evaluate()[0]
    present = {box.detection_name for box in evaluation.gt_boxes.all}
    assert {"car", "bus", "trailer"} <= present
    for name in present:
        assert metrics.mean_dist_aps[name] == pytest.approx(1.0)
        assert metrics.get_label_tp(name, "trans_err") < 1e-6
        assert metrics.get_label_tp(name, "scale_err") < 1e-6


def _perfect(nusc: NuScenes, token: str) -> dict[str, Any]:
    label = nusc.get("sample_annotation", token)
    attributes = [nusc.get("attribute", one)["name"] for one in label["attribute_tokens"]]
    return {
        "sample_token": label["sample_token"],
        "translation": label["translation"],
        "size": label["size"],
        "rotation": label["rotation"],
        "velocity": nusc.box_velocity(token)[:2].tolist(),
        "detection_name": category_to_detection_name(label["category_name"]),
        "detection_score": 0.9,
        "attribute_name": attributes[0] if attributes else "",
    }
