"""KITTI object folders, and folders in their format, as frames of one camera.

The camera frame is KITTI's rectified one and the projection is P2; the bev frame is the Velodyne's,
or, in a folder whose calibrations do not know one, the camera's own place with the axes turned.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path, PurePath

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mono3d.codec.box_frames import boxes_in_bev
from mono3d.data.drives import kitti_drives
from mono3d.data.files import (
    DataPath,
    check_inside,
    list_ahead,
    list_names,
    read_bytes,
    read_each,
    read_text,
)
from mono3d.data.images import channels_first, read_image, read_image_size
from mono3d.data.kitti_format import (
    KittiLabels,
    read_calibration,
    read_labels,
    read_velodyne,
    visibility_of,
)
from mono3d.data.labels import IGNORED, LabelMap, check_classes, label_of
from mono3d.errors import DataError
from mono3d.geometry.camera import BEV_FROM_LEVEL_CAM
from mono3d.structures import Boxes3D, Frame

CAMERA = "image_2"
TYPES = (
    "Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc",
)  # fmt: skip
"""What KITTI labels; DontCare marks regions, not objects."""
_NUM_TRAINING, _NUM_TESTING = 7481, 7518


@dataclass(frozen=True, kw_only=True)
class KittiSummary:
    """What a data set holds."""

    frames: int
    objects: Mapping[str, int]
    """By class."""
    types: Mapping[str, int]
    """By type in the label files, whether learnt or not."""


class KittiDataset:
    """Frames of a KITTI folder. Picklable; it is listed, and labels are read, when it is opened."""

    def __init__(
        self,
        root: DataPath,
        *,
        split: str,
        class_names: Sequence[str],
        label_map: LabelMap | None = None,
        with_points: bool = False,
        has_labels: bool = True,
    ) -> None:
        """Open a folder.

        Args:
            root: Holds training/ (and testing/) with image_2/, calib/, label_2/ and velodyne/.
            split: See `frames_of_split`.
            class_names: Classes to learn, in the order of their labels. KITTI's other types are
                dropped.
            label_map: Type in the files → class that it counts as, or None to ignore it.
            with_points: Whether to read the Velodyne sweeps.
            has_labels: False leaves labels out, as if the frames were not annotated; so it is for
                the testing frames.

        Raises:
            DataError: If a split, label file or calibration is missing or broken, or a label file
                holds a type that is neither KITTI's, nor a class, nor mapped.
            ConfigError: If a class is named twice, or the label map leads to what is no class.
            StorageError: If the store that holds the folder cannot be used.
        """
        check_classes(class_names, label_map or {}, source=root)
        self._root = root
        self._ids = frames_of_split(root, split)
        self._folder = root / _part_of(split)
        self._class_names = tuple(class_names)
        self._with_points = with_points
        self._has_labels = has_labels and self._folder.name != "testing"
        parts = ["image_2", "calib"]
        parts += ["label_2"] if self._has_labels else []
        parts += ["velodyne"] if with_points else []
        list_ahead(self._folder / part for part in parts)
        self._jpegs = _jpegs(self._folder / "image_2")
        self._sizes: dict[int, tuple[int, int]] = {}
        calibrations = read_each(read_calibration, self._files("calib", ".txt"))
        self._projections = np.array([c.projection for c in calibrations]).reshape(-1, 3, 4)
        self._bev_from_cam = np.array(
            [
                np.array(BEV_FROM_LEVEL_CAM)
                if c.cam_from_velo is None
                else np.linalg.inv(c.cam_from_velo)
                for c in calibrations
            ]
        ).reshape(-1, 4, 4)
        self._labels, self._classes = self._read_labels(label_map or {})

    def _read_labels(
        self, label_map: LabelMap
    ) -> tuple[list[KittiLabels], list[Int64[np.ndarray, " n"]]]:
        """Label files, and class of each object in them, -1 for what is not learnt."""
        if not self._has_labels:
            return [], []
        paths = self._files("label_2", ".txt")
        labels = read_each(read_labels, paths)
        meaning: dict[str, int] = {}
        for path, found in zip(paths, labels, strict=True):
            for name in sorted(set(found.types) - meaning.keys()):
                label = label_of([name], self._class_names, label_map)
                if label is None and name not in TYPES:
                    raise DataError(
                        f"{path}: type {name} is neither KITTI's nor one of the classes "
                        f"{self._class_names}; map it to one of them, or to null to ignore it"
                    )
                meaning[name] = IGNORED if label is None else label
        classes = [np.array([meaning[n] for n in found.types], np.int64) for found in labels]
        return labels, classes

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def has_labels(self) -> bool:
        """Whether the frames are annotated."""
        return self._has_labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in the order of their labels."""
        return self._class_names

    @property
    def frame_ids(self) -> list[str]:
        """Names of all frames, in order: those of their files."""
        return list(self._ids)

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            DataError: If the image or the sweep is missing, cut short or corrupt.
            StorageError: If the store that holds them cannot be used.
            IndexError: Past the end.
        """
        name = self._ids[index]
        image = read_image(self._image_path(name))
        pose = torch.from_numpy(self._bev_from_cam[index]).float()
        boxes_cam, boxes_bev = None, None
        if self._has_labels:
            boxes = self._boxes(index)
            boxes_cam, boxes_bev = (boxes,), boxes_in_bev(boxes, pose)
        return Frame(
            frame_id=name,
            camera_names=(CAMERA,),
            images=channels_first(image[None]),
            projection=self._projection(index)[None],
            bev_from_cam=pose[None],
            boxes_cam=boxes_cam,
            boxes_bev=boxes_bev,
            points=self._points(name) if self._with_points else None,
        )

    def frame_labels(self, index: int) -> Int64[np.ndarray, " objects"] | None:
        """Classes of the frame's objects, without reading its image."""
        if not self._has_labels:
            return None
        classes = self._classes[index]
        return classes[classes >= 0]

    def camera_labels(self, index: int) -> list[tuple[Boxes3D, Float[Tensor, "3 4"]]]:
        """Camera-frame boxes and projection of the frame's camera, without its image."""
        boxes = self._boxes(index) if self._has_labels else Boxes3D.empty()
        return [(boxes, self._projection(index))]

    def rectangles_px(self, index: int) -> Float64[np.ndarray, "n 4"]:
        """Left, top, right and bottom of all the frame's objects, learnt or not, as labelled."""
        return self._labels[index].boxes_px if self._has_labels else np.zeros((0, 4))

    def label_files(self, indices: Sequence[int]) -> list[tuple[str, bytes]]:
        """Path and content of the label files of some frames: what KITTI's evaluation reads.

        Raises:
            DataError: A file is not there any more.
            StorageError: If the store that holds them cannot be used.
        """
        paths = [self._folder / "label_2" / f"{self._ids[index]}.txt" for index in indices]
        return list(zip(map(str, paths), read_each(read_bytes, paths), strict=True))

    def image_sizes(self, indices: Sequence[int]) -> list[tuple[int, int]]:
        """Height and width of some frames' images, pixels; read once."""
        unknown = [index for index in indices if index not in self._sizes]
        paths = [self._image_path(self._ids[index]) for index in unknown]
        self._sizes |= zip(unknown, read_each(read_image_size, paths), strict=True)
        return [self._sizes[index] for index in indices]

    def describe(self) -> KittiSummary:
        """Counts of frames and objects."""
        learnt = [classes[classes >= 0] for classes in self._classes]
        counts = np.bincount(
            np.concatenate([*learnt, np.zeros(0, np.int64)]), minlength=len(self._class_names)
        )
        types = [name for labels in self._labels for name in labels.types]
        return KittiSummary(
            frames=len(self),
            objects=dict(zip(self._class_names, counts.tolist(), strict=True)),
            types={name: types.count(name) for name in sorted(set(types))},
        )

    def lidar_objects(self, index: int) -> tuple[Float[Tensor, "n 4"], Boxes3D]:
        """Points and labelled objects of a frame in the bev frame, without its image."""
        pose = torch.from_numpy(self._bev_from_cam[index]).float()
        return self._points(self._ids[index]), boxes_in_bev(self._boxes(index), pose)

    @cached_property
    def drives(self) -> frozenset[str] | None:
        """Drives of the frames; None if the folder does not say them all (`kitti_drives`).

        None of the training frames' drives are those of the testing frames.

        Raises:
            DataError: A list of drives is broken.
        """
        if self._folder.name == "testing":
            return frozenset()
        known = kitti_drives(self._root)
        if known is None or any(name not in known for name in self._ids):
            return None
        return frozenset(known[name] for name in self._ids)

    def moment_of(self, index: int) -> str:
        """Every frame is a moment of its own."""
        return self._ids[index]

    @property
    def cameras(self) -> tuple[str, ...]:
        """All that are read."""
        return (CAMERA,)

    def cameras_of(self, index: int) -> tuple[str, ...]:
        """Those of a frame."""
        del index
        return self.cameras

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over names, labels and calibrations of these frames; pixels are not read."""
        digest = hashlib.sha256()
        settings = [self._class_names, self._ids, self._with_points, self._has_labels]
        digest.update(json.dumps(settings).encode())
        for column in (self._projections, self._bev_from_cam):
            digest.update((column.round(9) + 0.0).tobytes())
        for labels, classes in zip(self._labels, self._classes, strict=True):
            digest.update(classes.tobytes())
            for values in (labels.dims_hwl, labels.centers, labels.yaw, labels.occluded):
                digest.update((values.round(6) + 0).tobytes())
        return digest.hexdigest()

    def _files(self, part: str, ending: str) -> list[DataPath]:
        """One of each frame."""
        return [self._folder / part / f"{name}{ending}" for name in self._ids]

    def _image_path(self, name: str) -> DataPath:
        return self._folder / "image_2" / f"{name}{'.jpg' if name in self._jpegs else '.png'}"

    def _projection(self, index: int) -> Float[Tensor, "3 4"]:
        return torch.from_numpy(self._projections[index]).float()

    def _boxes(self, index: int) -> Boxes3D:
        labels, classes = self._labels[index], self._classes[index]
        rows = np.flatnonzero(classes >= 0)
        count = len(rows)
        integers = torch.full((count,), -1)
        return Boxes3D(
            centers=torch.from_numpy(labels.centers[rows]).float(),
            dims_hwl=torch.from_numpy(labels.dims_hwl[rows]).float(),
            yaw=torch.from_numpy(labels.yaw[rows]).float(),
            labels=torch.from_numpy(classes[rows]),
            velocity=torch.full((count, 2), torch.nan),
            attributes=integers,
            object_ids=torch.from_numpy(rows),
            num_points=integers,
            visibility=torch.from_numpy(visibility_of(labels.occluded[rows])).float(),
            valid=torch.ones(count, dtype=torch.bool),
        )

    def _points(self, name: str) -> Float[Tensor, "n 4"]:
        points = read_velodyne(self._folder / "velodyne" / f"{name}.bin")
        # Columns one after the other: products with few rows read them that way fastest.
        return torch.from_numpy(np.ascontiguousarray(points.T)).T


def frames_of_split(root: DataPath, split: str) -> list[str]:
    """Names of the frames of a split.

    Args:
        root: KITTI folder.
        split: `all` for every labelled image; a path to a .txt file with a name a line; or a name:
            that of a list in root/ImageSets, else one of the official train, val, trainval, test.

    Raises:
        DataError: If there is no such split, or it is empty.
        StorageError: If the store that holds the folder cannot be used.
    """
    if split == "all":
        folder = root / "training" / "image_2"
        files = map(PurePath, list_names(folder))
        names = sorted(file.stem for file in files if file.suffix in {".png", ".jpg"})
        if not names:
            raise DataError(f"{folder}: no images, so this is no KITTI folder")
        return names
    path = Path(split) if split.endswith(".txt") else root / "ImageSets" / f"{split}.txt"
    if path.is_file():
        names = read_text(path).split()
        if not names:
            raise DataError(f"{path}: names no frame")
        check_inside(names, path)
        return names
    official = _official_split(split)
    if official is None:
        raise DataError(
            f"split {split}: neither {path} nor one of the official train, val, trainval and test"
        )
    return official


def _official_split(split: str) -> list[str] | None:
    """Chen et al.'s halves of the training frames (3DOP, NIPS 2015), and KITTI's own parts."""
    if split == "test":
        return [f"{number:06d}" for number in range(_NUM_TESTING)]
    everything = [f"{number:06d}" for number in range(_NUM_TRAINING)]
    if split == "trainval":
        return everything
    if split not in {"train", "val"}:
        return None
    lists = resources.files("mono3d.data") / "kitti_train.txt"
    train = set(lists.read_text().split())
    return [name for name in everything if (name in train) == (split == "train")]


def _jpegs(folder: DataPath) -> frozenset[str]:
    """Names of the frames whose image is a JPEG, and not a PNG as KITTI has them."""
    files = [PurePath(name) for name in list_names(folder)]
    pngs = {file.stem for file in files if file.suffix == ".png"}
    return frozenset(file.stem for file in files if file.suffix == ".jpg") - pngs


def _part_of(split: str) -> str:
    return "testing" if split == "test" else "training"
