"""nuScenes folders as frames of one camera or of six, in the camera and bev frames.

The bev frame of a sample is the ego vehicle's at the time of its LiDAR sweep. A camera fires at
another time, so `bev_from_cam` passes through the global frame.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from mono3d.codec.nuscenes_names import CAMERAS
from mono3d.codec.nuscenes_poses import FramePose
from mono3d.data.files import DataPath, list_ahead
from mono3d.data.labels import LabelMap, check_classes
from mono3d.data.nuscenes_annotations import rigid_inverse
from mono3d.data.nuscenes_blobs import read_sweep, read_views
from mono3d.data.nuscenes_boxes import ObjectReader
from mono3d.data.nuscenes_fetch import local_tables
from mono3d.data.nuscenes_index import load_index, open_index
from mono3d.data.nuscenes_labels import category_labels
from mono3d.data.nuscenes_splits import samples_of_split
from mono3d.errors import DataError
from mono3d.structures import Boxes3D, Frame

_HASHED_OF_SAMPLE = ("sample_tokens", "global_from_bev", "bev_from_lidar", "lidar_files")
_HASHED_OF_CAMERA = ("camera_tokens", "camera_files", "intrinsics", "global_from_cam")
_HASHED_OF_OBJECT = (
    "centers",
    "forward",
    "velocity",
    "dims_hwl",
    "attributes",
    "object_ids",
    "num_points",
    "visibility",
)
_HASHED_DECIMALS = 6


@dataclass(frozen=True, kw_only=True)
class NuScenesSummary:
    """What a data set holds."""

    scenes: int
    samples: int
    frames: int
    objects: Mapping[str, int]
    """By class; an object counts once a sample, however many cameras see it."""
    others: Mapping[str, int]
    """By category, of those that are not learnt."""


class NuScenesDataset:
    """Frames of a nuScenes folder: one for each camera image, or one for each sample.

    Picklable: it holds no devkit object and maps its index again where it is unpickled.
    """

    def __init__(  # noqa: PLR0913 (what to read, and where it lies)
        self,
        root: DataPath,
        *,
        version: str,
        split: str,
        class_names: Sequence[str],
        label_map: LabelMap | None = None,
        cameras: Sequence[str] = CAMERAS,
        surround: bool = False,
        with_points: bool = False,
        has_labels: bool = True,
        blob_root: DataPath | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        """Open a folder; the first time, its index is built with nuscenes-devkit.

        Args:
            root: nuScenes folder: tables in root/version, maps in root/maps.
            version: Folder of the tables, such as v1.0-trainval.
            split: See `samples_of_split`.
            class_names: Classes to learn, in the order of their labels: detection classes of the
                benchmark, categories, or classes of one's own to which the label map leads. Objects
                of nuScenes' other categories are dropped. Objects without LiDAR points are kept:
                `num_points` tells.
            label_map: Category or detection class → class that it counts as, or None to ignore
                it; a category wins over its detection class.
            cameras: Channels to read, in this order.
            surround: One frame of all cameras for each sample, named by the sample's token;
                otherwise one frame of one camera, named by the token of its sample_data.
            with_points: Whether to read the LiDAR sweep of each sample.
            has_labels: False leaves labels out, as if the samples were not annotated.
            blob_root: Folder that holds samples/; None is `root`.
            cache_dir: Where the index is kept, and tables of a store; see `open_index`.

        Raises:
            DataError: If tables, split or a camera's key frame are missing or broken, labels are
                asked of a version without annotations, or an object has a category that is
                neither nuScenes', nor a class, nor mapped.
            ConfigError: If a class is named twice, or the label map names what is no category or
                no class.
            StorageError: If a store that holds the folder cannot be used.
        """
        check_classes(class_names, label_map or {}, source=root)
        self.tables_root = local_tables(root, version, cache_dir)
        """Local nuScenes folder with the tables and maps, such as nuscenes-devkit reads."""
        self._index, self._index_path = open_index(self.tables_root, version, cache_dir)
        self._blob_root = blob_root or root
        self._class_names = tuple(class_names)
        self._cameras = tuple(cameras)
        self._surround, self._with_points, self._has_labels = surround, with_points, has_labels
        self._samples = samples_of_split(self._index, split)
        self._channels = self._find_channels(root / version)
        self._label_of = category_labels(
            self._index.category_names,
            self._count_categories(self._object_rows()),
            class_names,
            label_map or {},
            source=root / version,
        )
        self._objects = ObjectReader(index=self._index, label_of=self._label_of)
        if has_labels and not len(self._index.categories):
            raise DataError(f"{root / version}: no annotations, so it can only be read unlabelled")
        list_ahead(self._blob_folders())

    def _find_channels(self, folder: DataPath) -> Int64[np.ndarray, " v"]:
        unknown = [name for name in self._cameras if name not in self._index.channels]
        if unknown or not self._cameras:
            known = list(self._index.channels)
            raise DataError(f"{folder}: cameras {list(self._cameras)}: choose from {known}")
        channels = np.array([self._index.channels.index(name) for name in self._cameras])
        is_missing = self._index.camera_tokens[self._samples][:, channels] == b""
        if is_missing.any():
            row, column = np.argwhere(is_missing)[0]
            token = self._index.sample_tokens[self._samples[row]].decode()
            raise DataError(f"{folder}: sample {token} has no key frame of {self._cameras[column]}")
        return channels

    def _blob_folders(self) -> list[DataPath]:
        """Folders of all images and sweeps of the data set, if they lie in a store."""
        if isinstance(self._blob_root, Path):
            return []
        files = self._index.camera_files[self._samples][:, self._channels].ravel()
        if self._with_points:
            files = np.concatenate([files, self._index.lidar_files[self._samples]])
        folders = {file.rpartition(b"/")[0].decode() for file in files.tolist()}
        return [self._blob_root / folder for folder in sorted(folders)]

    def __getstate__(self) -> dict[str, Any]:
        mapped = ("_index", "_objects")
        return {name: value for name, value in self.__dict__.items() if name not in mapped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._index = load_index(self._index_path)
        self._objects = ObjectReader(index=self._index, label_of=self._label_of)

    def __len__(self) -> int:
        return len(self._samples) * (1 if self._surround else len(self._channels))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in the order of their labels."""
        return self._class_names

    @property
    def frame_ids(self) -> list[str]:
        """Names of all frames, in order: sample_data tokens, or sample tokens if surround."""
        if self._surround:
            tokens = self._index.sample_tokens[self._samples]
        else:
            tokens = self._index.camera_tokens[self._samples][:, self._channels].ravel()
        return [token.decode() for token in tokens.tolist()]

    @property
    def sample_tokens(self) -> list[str]:
        """Tokens of the samples, in order."""
        return [token.decode() for token in self._index.sample_tokens[self._samples].tolist()]

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            DataError: If an image or a LiDAR sweep is missing, cut short, corrupt, or of another
                size than the tables or the other cameras say.
            StorageError: If the store that holds them cannot be used.
            IndexError: Past the end.
        """
        sample, channels = self._locate(index)
        poses = self._index.global_from_cam[sample, channels]
        global_from_bev = self._index.global_from_bev[sample]
        boxes_cam, boxes_bev = None, None
        if self._has_labels:
            boxes_cam = self._boxes_cam(sample, channels)
            boxes_bev = self._objects.in_bev(self._objects.rows(sample), global_from_bev)
        files = [file.decode() for file in self._index.camera_files[sample, channels].tolist()]
        return Frame(
            frame_id=self._frame_id(sample, channels),
            camera_names=self.cameras_of(index),
            images=read_views(
                [self._blob_root / file for file in files],
                self._index.image_sizes[sample, channels].tolist(),
            ),
            projection=self._projection(sample, channels),
            bev_from_cam=torch.from_numpy(
                (rigid_inverse(global_from_bev) @ poses).astype(np.float32)
            ),
            boxes_cam=boxes_cam,
            boxes_bev=boxes_bev,
            points=self._points(sample) if self._with_points else None,
        )

    def frame_labels(self, index: int) -> Int64[np.ndarray, " objects"] | None:
        """Labels of the objects that a frame's cameras see, without reading its images."""
        if not self._has_labels:
            return None
        sample, channels = self._locate(index)
        owned = self._index.objects_of(sample)
        labels = self._label_of[self._index.categories[owned]]
        is_seen = self._index.is_in_image[owned][:, channels].any(axis=1)
        seen: np.ndarray = labels[is_seen & (labels >= 0)]
        return seen

    def camera_labels(self, index: int) -> list[tuple[Boxes3D, Float[Tensor, "3 4"]]]:
        """Camera-frame boxes and projection of each camera of a frame, without its images."""
        sample, channels = self._locate(index)
        none = (Boxes3D.empty(),) * len(channels)
        boxes = self._boxes_cam(sample, channels) if self._has_labels else none
        return list(zip(boxes, self._projection(sample, channels), strict=True))

    def lidar_objects(self, index: int) -> tuple[Float[Tensor, "n 4"], Boxes3D]:
        """Points and labelled objects of a frame's moment in the bev frame, without its images."""
        sample, _ = self._locate(index)
        boxes = self._objects.in_bev(
            self._objects.rows(sample), self._index.global_from_bev[sample]
        )
        return self._points(sample), boxes

    @property
    def drives(self) -> frozenset[str] | None:
        """Names of the scenes."""
        numbers = np.unique(self._index.scenes[self._samples]).tolist()
        return frozenset(self._index.scene_names[number] for number in numbers)

    def moment_of(self, index: int) -> str:
        """Token of the frame's sample."""
        sample, _ = self._locate(index)
        return str(self._index.sample_tokens[sample].decode())

    @property
    def cameras(self) -> tuple[str, ...]:
        """All that are read."""
        return self._cameras

    def cameras_of(self, index: int) -> tuple[str, ...]:
        """Those of a frame."""
        _, channels = self._locate(index)
        return tuple(self._index.channels[channel] for channel in channels)

    def pose(self, index: int) -> FramePose:
        """Sample and poses of a frame, for the evaluation of what is detected in it."""
        sample, channels = self._locate(index)
        return FramePose(
            sample_token=self.moment_of(index),
            global_from_cam=torch.from_numpy(self._index.global_from_cam[sample, channels]),
            global_from_bev=torch.from_numpy(self._index.global_from_bev[sample].copy()),
        )

    def describe(self) -> NuScenesSummary:
        """Counts of scenes, samples, frames and objects."""
        rows = self._object_rows()
        labels = self._label_of[self._index.categories[rows]]
        counts = np.bincount(labels[labels >= 0], minlength=len(self._class_names)).tolist()
        names = self._index.category_names
        others = self._count_categories(rows[labels < 0]).tolist()
        return NuScenesSummary(
            scenes=len(np.unique(self._index.scenes[self._samples])),
            samples=len(self._samples),
            frames=len(self),
            objects=dict(zip(self._class_names, counts, strict=True)),
            others={name: count for name, count in zip(names, others, strict=True) if count},
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over tokens, file names, boxes, poses and calibrations of these frames.

        Pixels and points are not read; where the folder lies does not matter.
        """
        digest = hashlib.sha256()
        settings = [self._class_names, self._cameras, self._surround, self._with_points]
        digest.update(json.dumps([*settings, self._has_labels]).encode())
        for name in _HASHED_OF_SAMPLE:
            digest.update(_content(getattr(self._index, name)[self._samples]))
        for name in _HASHED_OF_CAMERA:
            digest.update(_content(getattr(self._index, name)[self._samples][:, self._channels]))
        rows = self._object_rows()
        labels = self._label_of[self._index.categories[rows]]
        rows = rows[labels >= 0]
        digest.update(_content(labels[labels >= 0]))
        for name in _HASHED_OF_OBJECT:
            digest.update(_content(getattr(self._index, name)[rows]))
        return digest.hexdigest()

    def _locate(self, index: int) -> tuple[int, Int64[np.ndarray, " v"]]:
        """Row of the frame's sample, and its channels."""
        if self._surround:
            return int(self._samples[index]), self._channels
        position, camera = divmod(index, len(self._channels))
        return int(self._samples[position]), self._channels[camera : camera + 1]

    def _frame_id(self, sample: int, channels: Int64[np.ndarray, " v"]) -> str:
        if self._surround:
            return str(self._index.sample_tokens[sample].decode())
        return str(self._index.camera_tokens[sample, channels[0]].decode())

    def _object_rows(self) -> Int64[np.ndarray, " n"]:
        """Rows of all labelled objects of the data set's samples, learnt or not."""
        is_ours = np.zeros(len(self._index.sample_tokens), dtype=bool)
        is_ours[self._samples] = self._has_labels
        return np.flatnonzero(np.repeat(is_ours, np.diff(self._index.first_object)))

    def _count_categories(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " categories"]:
        """How many of some objects are of each category."""
        count = len(self._index.category_names)
        return np.bincount(self._index.categories[rows], minlength=count)

    def _boxes_cam(self, sample: int, channels: Int64[np.ndarray, " v"]) -> tuple[Boxes3D, ...]:
        rows = self._objects.rows(sample)
        is_seen = self._index.is_in_image[rows][:, channels]
        poses = self._index.global_from_cam[sample, channels]
        return tuple(
            self._objects.in_camera(rows[seen], pose)
            for seen, pose in zip(is_seen.T, poses, strict=True)
        )

    def _projection(self, sample: int, channels: Int64[np.ndarray, " v"]) -> Float[Tensor, "v 3 4"]:
        projection = np.zeros((len(channels), 3, 4), np.float32)
        projection[..., :3] = self._index.intrinsics[sample, channels]
        return torch.from_numpy(projection)

    def _points(self, sample: int) -> Float[Tensor, "n 4"]:
        path = self._blob_root / self._index.lidar_files[sample].decode()
        return read_sweep(path, self._index.bev_from_lidar[sample])


def _content(column: Shaped[np.ndarray, "..."]) -> bytes:
    """Bytes that say what a column holds, whatever its padding and the last bits of its floats."""
    if column.dtype.kind == "S":
        return bytes(b"\n".join(column.ravel().tolist()))
    if column.dtype.kind == "f":
        column = column.round(_HASHED_DECIMALS) + 0.0  # no negative zeros
    return bytes(column.tobytes())
