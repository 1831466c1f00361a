"""nuScenes tables, read by nuscenes-devkit, as the columns of an index (data/nuscenes_index.py)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mono3d.data.files import DataPath, check_inside, list_folders
from mono3d.data.nuscenes_annotations import check_objects, is_in_image, object_columns, object_rows
from mono3d.data.nuscenes_sensors import camera_columns, lidar_columns, text
from mono3d.errors import DataError

if TYPE_CHECKING:
    from nuscenes import NuScenes

TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "log",
    "map",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
)


def read_tables(root: Path, version: str) -> dict[str, Any]:
    """Columns of the index of one version, by name.

    Args:
        root: nuScenes folder that holds the version's folder.
        version: Name of the folder with the tables.

    Raises:
        DataError: If a table is missing, not JSON, refers to what is not there, or holds a box
            without a size or a position.
    """
    check_tables(root, version)
    try:
        return _columns(_load_devkit(root, version), root / version)
    except (AssertionError, LookupError, TypeError, ValueError, OSError) as error:
        raise DataError(_why(root / version, error)) from error


def check_tables(root: DataPath, version: str) -> None:
    """See that all tables of a version are there, whatever they hold.

    Raises:
        DataError: If one is missing.
        StorageError: If the store that holds them cannot be asked.
    """
    folder = root / version
    if not folder.is_dir():
        present = [n for n in list_folders(root) if (root / n / "sample_data.json").is_file()]
        raise DataError(f"{folder}: no such nuScenes version; in {root}: {present or 'none'}")
    missing = [name for name in TABLES if not (folder / f"{name}.json").is_file()]
    if missing:
        raise DataError(f"{folder / missing[0]}.json: table is missing; nuScenes has 13 tables")


def _load_devkit(root: Path, version: str) -> "NuScenes":
    from nuscenes import NuScenes  # seconds to import, and not needed once the index exists

    try:
        return NuScenes(version, str(root), verbose=False)
    except json.JSONDecodeError as error:
        raise DataError(_why(root / version, error)) from error


def _why(folder: Path, error: Exception) -> str:
    """What is wrong with tables that could not be read, as far as can be told from them."""
    for path in (folder / f"{name}.json" for name in TABLES):
        try:
            records = json.loads(path.read_bytes())
        except ValueError as broken:
            return f"{path}: not valid JSON ({broken})"
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            return f"{path}: must be a list of records, as all tables of nuScenes"
    if isinstance(error, KeyError):
        return f"{folder}: tables do not fit together: they speak of {error}, which is not there"
    return f"{folder}: tables do not fit together ({error!r})"


def _columns(nusc: "NuScenes", folder: Path) -> dict[str, Any]:
    cameras = [row["channel"] for row in nusc.sensor if row["modality"] == "camera"]
    used = {channel for sample in nusc.sample for channel in sample["data"]}
    channels = tuple(channel for channel in cameras if channel in used)
    scene_row = {row["token"]: number for number, row in enumerate(nusc.scene)}
    rows = object_rows(nusc)
    check_objects(rows, folder / "sample_annotation.json")
    num_objects = np.bincount([row.sample for row in rows], minlength=len(nusc.sample))
    objects, views = object_columns(rows), camera_columns(nusc, channels)
    _check_names(nusc, folder)
    return {
        "channels": channels,
        "scene_names": tuple(row["name"] for row in nusc.scene),
        "category_names": tuple(row["name"] for row in nusc.category),
        "splits": _splits(folder),
        "sample_tokens": text([row["token"] for row in nusc.sample]),
        "scenes": np.array([scene_row[row["scene_token"]] for row in nusc.sample], np.int32),
        "first_object": np.concatenate([[0], num_objects.cumsum()]).astype(np.int64),
        "is_in_image": is_in_image(
            objects, views, np.repeat(np.arange(len(num_objects)), num_objects)
        ),
        **objects,
        **views,
        **lidar_columns(nusc),
    }


def _check_names(nusc: "NuScenes", folder: Path) -> None:
    """Files are read by the names in the tables, and results are named by tokens."""
    for table, records in (("sample_data", nusc.sample_data), ("sample", nusc.sample)):
        source = folder / f"{table}.json"
        check_inside((record["token"] for record in records), source)
        check_inside((r["filename"] for r in records if "filename" in r), source)


def _splits(folder: Path) -> dict[str, tuple[str, ...]]:
    """Official splits and the folder's own; the official meaning of a name wins, as in devkit."""
    from nuscenes.utils.splits import create_splits_scenes

    path = folder / "splits.json"
    own = json.loads(path.read_text()) if path.is_file() else {}
    if not isinstance(own, dict) or not all(isinstance(scenes, list) for scenes in own.values()):
        raise DataError(f"{path}: splits must map a name to a list of scene names")
    return {name: tuple(scenes) for name, scenes in (own | create_splits_scenes()).items()}
