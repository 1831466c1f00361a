"""Frames without labels from drives that are measured on are refused unless one says so."""

from pathlib import Path
from typing import Any

import pytest

from mono3d.config.load import apply_overrides, load_recipe, parse
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.training.parts import open_splits
from tests.support.kitti_folder import write_kitti
from tests.support.nuscenes_tables import VERSION, write_tables


def on(sets: dict[str, Any], **changes: object) -> RunConfig:
    """A run of the dense detector on merged sets."""
    tree = load_recipe("kitti_baseline").model_dump(mode="json")
    tree["data"] = {"kind": "merged", "class_names": ["car", "pedestrian"], "sets": sets}
    tree["checkpoint"] = {"metric": "val/centers_depth_abs_rel", "mode": "min"}
    return parse(apply_overrides(tree, changes.items()), source="test")


def kitti(root: Path, split: str, **more: object) -> dict[str, object]:
    label_map = {"Car": "car", "Van": "car", "Pedestrian": "pedestrian"}
    return {
        "kind": "kitti",
        "root": str(root),
        "train_split": split,
        "label_map": label_map,
        **more,
    }


def unlabelled(root: Path, split: str) -> dict[str, object]:
    return kitti(root, split, val_split=None, has_labels=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_kitti(tmp_path / "kitti")


def write_drives(root: Path, text: str) -> None:
    (root / "ImageSets" / "drives.txt").write_text(text)


def test_drives_that_nobody_knows_are_refused(root: Path) -> None:
    config = on({"seen": kitti(root, "train", val_split="val"), "raw": unlabelled(root, "train")})
    with pytest.raises(ConfigError, match=r"whether its drives are in seen's val_split is not kn"):
        open_splits(config, None)


def test_drives_that_are_measured_on_are_refused(root: Path) -> None:
    write_drives(root, "000000 hill\n000001 bridge\n000002 bridge\n")
    config = on({"seen": kitti(root, "train", val_split="val"), "raw": unlabelled(root, "train")})
    with pytest.raises(ConfigError, match=r"drives are in seen's val_split too \(1\): bridge; "):
        open_splits(config, None)


def test_who_says_so_may(root: Path) -> None:
    sets = {"seen": kitti(root, "train", val_split="val"), "raw": unlabelled(root, "train")}
    open_splits(on(sets, **{"data.sets.raw.may_overlap_val": True}), None)


def test_other_drives_are_fine(root: Path) -> None:
    write_drives(root, "000000 hill\n000001 hill\n000002 bridge\n")
    config = on({"seen": kitti(root, "train", val_split="val"), "raw": unlabelled(root, "train")})
    train, val = open_splits(config, None)
    assert len(train) == 4
    assert len(val) == 1


def test_labelled_frames_may_come_from_anywhere(root: Path) -> None:
    sets = {
        "seen": kitti(root, "train", val_split="val"),
        "more": kitti(root, "all", val_split=None),
    }
    open_splits(on(sets), None)


def test_scenes_of_nuscenes_are_drives(tmp_path: Path) -> None:
    folder = {"kind": "nuscenes", "root": str(write_tables(tmp_path / "nus")), "version": VERSION}
    label_map = {"label_map": {"truck": "car"}}
    seen = {**folder, **label_map, "train_split": "tiny_train", "val_split": "tiny_val"}
    same = {
        **folder,
        **label_map,
        "train_split": "tiny_val",
        "val_split": None,
        "has_labels": False,
    }
    with pytest.raises(ConfigError, match=r"drives are in seen's val_split too \(1\): scene-"):
        open_splits(on({"seen": seen, "raw": same}), None)
    open_splits(on({"seen": seen, "raw": {**same, "train_split": "tiny_train"}}), None)
