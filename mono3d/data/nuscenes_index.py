"""Index of one nuScenes version: what its tables say about key frames, as flat arrays in one file.

Reading the tables takes minutes and gigabytes; the index is built from them once, cached, and
memory mapped afterwards, so that workers share its pages and opening it reads next to nothing.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int8, Int16, Int32, Int64, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mono3d.data.nuscenes_tables import TABLES, read_tables
from mono3d.errors import DataError
from mono3d.storage.local_cache import cache_folder, locked

_FORMAT = 3
"""Also where tables are checked for more, so that an index of before does not pass."""
_SETTINGS = ("channels", "scene_names", "category_names", "splits")


@dataclass(frozen=True, kw_only=True)
class NuScenesIndex:
    """Key frames of a version; s samples in table order, c cameras, n objects sorted by sample.

    Text columns are fixed-width UTF-8.
    Poses are rigid transforms in double precision, since global coordinates are large.
    """

    channels: tuple[str, ...]
    """Names of the c cameras."""
    scene_names: tuple[str, ...]
    category_names: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    """Split → scene names: the official splits, and those of the folder's splits.json."""

    sample_tokens: Shaped[np.ndarray, " s"]
    scenes: Int32[np.ndarray, " s"]
    """Position in `scene_names`."""
    first_object: Int64[np.ndarray, " s_plus_1"]
    """Sample i owns objects first_object[i] to first_object[i + 1]."""
    global_from_bev: Float64[np.ndarray, "s 4 4"]
    """Ego pose at the time of LIDAR_TOP."""
    bev_from_lidar: Float64[np.ndarray, "s 4 4"]
    lidar_files: Shaped[np.ndarray, " s"]

    camera_tokens: Shaped[np.ndarray, "s c"]
    """Of the sample_data record; empty where a sample has no key frame of the camera."""
    camera_files: Shaped[np.ndarray, "s c"]
    image_sizes: Int32[np.ndarray, "s c 2"]
    """Height and width, pixels."""
    intrinsics: Float64[np.ndarray, "s c 3 3"]
    global_from_cam: Float64[np.ndarray, "s c 4 4"]
    """At the camera's own time stamp."""

    centers: Float64[np.ndarray, "n 3"]
    """In the global frame, as are the next two."""
    forward: Float32[np.ndarray, "n 3"]
    """Unit vector of the heading."""
    velocity: Float32[np.ndarray, "n 3"]
    """NaN where unknown."""
    dims_hwl: Float32[np.ndarray, "n 3"]
    categories: Int16[np.ndarray, " n"]
    """Position in `category_names`."""
    attributes: Int8[np.ndarray, " n"]
    """Position in ATTRIBUTES, -1 where there is none."""
    object_ids: Int16[np.ndarray, " n"]
    """Number of the annotation within its sample."""
    num_points: Int32[np.ndarray, " n"]
    visibility: Float32[np.ndarray, " n"]
    """Middle of the visibility bin in [0, 1], NaN where unknown."""
    is_in_image: Bool[np.ndarray, "n c"]
    """Whether the projected box meets the image of each camera."""

    def objects_of(self, sample: int) -> slice:
        """Rows of the objects of one sample."""
        return slice(int(self.first_object[sample]), int(self.first_object[sample + 1]))


def open_index(root: Path, version: str, cache_dir: Path | None) -> tuple[NuScenesIndex, Path]:
    """The index of a version, built if its tables have changed since, and the file it lies in.

    Args:
        root: nuScenes folder that holds the version's folder.
        version: Name of the folder with the tables, such as v1.0-trainval.
        cache_dir: Where indexes are kept; None is `cache_folder`.

    Raises:
        DataError: If the tables are missing or broken, or the cache cannot be written.
    """
    name = f"nuscenes-{version}-{_tables_digest(root / version)}.safetensors"
    path = (cache_dir or cache_folder()) / name
    if not _is_readable(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _build(root, version, path)
        except OSError as error:
            raise DataError(f"{path}: index cannot be written ({error.strerror})") from error
    return load_index(path), path


def load_index(path: Path) -> NuScenesIndex:
    """Memory map an index that `open_index` has made."""
    with safe_open(path, framework="pt") as file:
        settings = json.loads(file.metadata()["settings"])
        columns = {
            name: _from_tensor(file.get_tensor(name), name, settings)
            for name in file.keys()  # noqa: SIM118 (not a mapping)
        }
    return NuScenesIndex(
        channels=tuple(settings["channels"]),
        scene_names=tuple(settings["scene_names"]),
        category_names=tuple(settings["category_names"]),
        splits={name: tuple(scenes) for name, scenes in settings["splits"].items()},
        **columns,
    )


def _tables_digest(folder: Path) -> str:
    """Changes when a table changes; hashing their gigabytes would take longer than the rest."""
    paths = [folder / f"{name}.json" for name in (*TABLES, "splits")]
    present = [(path.name, path.stat()) for path in paths if path.is_file()]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in present]
    return hashlib.sha256(json.dumps([_FORMAT, facts]).encode()).hexdigest()[:16]


def _build(root: Path, version: str, path: Path) -> None:
    with locked(path.with_suffix(".lock")):  # of several workers, one builds
        if not _is_readable(path):
            _save(NuScenesIndex(**read_tables(root, version)), path)


def _is_readable(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt"):
            return True
    except (FileNotFoundError, SafetensorError):
        return False


def _save(index: NuScenesIndex, path: Path) -> None:
    columns = {f.name: getattr(index, f.name) for f in fields(index) if f.name not in _SETTINGS}
    settings = {name: getattr(index, name) for name in _SETTINGS}
    settings["text"] = [name for name, column in columns.items() if column.dtype.kind == "S"]
    partial = path.with_suffix(f".{os.getpid()}.partial")
    tensors = {name: _to_tensor(column) for name, column in columns.items()}
    save_file(tensors, partial, metadata={"settings": json.dumps(settings)})
    partial.replace(path)


def _to_tensor(column: Shaped[np.ndarray, "..."]) -> Shaped[torch.Tensor, "..."]:
    if column.dtype.kind == "S":
        column = column[..., None].view(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(column))


def _from_tensor(
    tensor: Shaped[torch.Tensor, "..."], name: str, settings: Mapping[str, list[str]]
) -> Shaped[np.ndarray, "..."]:
    column: np.ndarray = tensor.numpy()
    if name in settings["text"]:
        column = column.view(f"S{column.shape[-1]}")[..., 0]
    return column
