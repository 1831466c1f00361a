"""A tiny KITTI folder, a tiny nuScenes folder and unlabelled images as the data of one run."""

from pathlib import Path
from typing import Any

from tests.support.kitti_folder import write_kitti
from tests.support.nuscenes_tables import VERSION, write_tables


def write_merged(folder: Path) -> dict[str, Any]:
    """Write the folders; returns the `data` section of a run whose classes are nuScenes' own.

    Training has 3 labelled and 1 unlabelled frames of KITTI's and 12 of nuScenes', validation 2
    and 12.
    """
    kitti, nuscenes = write_kitti(folder / "kitti"), write_tables(folder / "nuscenes")
    return {
        "kind": "merged",
        "class_names": ["car", "pedestrian"],
        "sets": {
            "kitti": {
                "kind": "kitti",
                "root": str(kitti),
                "train_split": "all",
                "val_split": "train",
                "label_map": {"Car": "car", "Van": "car", "Pedestrian": "pedestrian"},
            },
            "nus": {
                "kind": "nuscenes",
                "root": str(nuscenes),
                "version": VERSION,
                "train_split": "tiny_train",
                "val_split": "tiny_val",
                "label_map": {"truck": "car"},
            },
            "raw": {
                "kind": "kitti",
                "root": str(kitti),
                "train_split": "test",
                "val_split": None,
                "has_labels": False,
            },
        },
    }
