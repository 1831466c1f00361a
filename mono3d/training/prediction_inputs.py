"""What a detector can be asked about: image files, videos, and frames of a data set.

Each yields frames under names that stay the same, in an order that stays the same, so work that was
interrupted can go on.
"""

import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mono3d.data.cameras import Camera
from mono3d.data.files import DataPath, list_names
from mono3d.data.images import read_image
from mono3d.data.loaders import read_frames
from mono3d.data.sampling import FrameDataset
from mono3d.data.videos import Video, open_video
from mono3d.errors import ConfigError, DataError
from mono3d.structures import Frame
from mono3d.training.datasets import build_dataset
from mono3d.training.predict import Detector

_IMAGES = frozenset({".png", ".jpg", ".jpeg"})
_VIDEOS = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".wmv"}
)


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Images, named like their files."""

    files: Sequence[DataPath]
    cameras: Sequence[Camera]
    """Of each image."""
    camera_height_m: float | None
    """Above the ground, of level cameras; None if it is not known."""

    @property
    def num_frames(self) -> int:
        """How many there are."""
        return len(self.files)

    def frames(self, detector: Detector, done: Container[str]) -> Iterator[Frame]:
        """Read images."""
        for path, camera in zip(self.files, self.cameras, strict=True):
            if path.stem not in done:
                image = read_image(path)
                camera.check_size(image, str(path))
                yield _frame(detector, path.stem, image, camera, self.camera_height_m)


@dataclass(frozen=True, kw_only=True)
class VideoFile:
    """Frames of a video, named after it and their number: clip_000120."""

    video: Video
    camera: Camera
    camera_height_m: float | None
    """See `ImageFiles`."""
    every: int = 1
    """Only frames whose number is a multiple of it."""

    @property
    def num_frames(self) -> int | None:
        """How many there are, as the file says."""
        count = self.video.num_frames
        return None if count is None else -(-count // self.every)

    def frames(self, detector: Detector, done: Container[str]) -> Iterator[Frame]:
        """Decode frames, one after the other."""
        for number, image in self.video.frames(
            every=self.every, is_skipped=lambda number: self._name(number) in done
        ):
            name = self._name(number)
            self.camera.check_size(image, str(self.video.path))
            yield _frame(detector, name, image, self.camera, self.camera_height_m)

    def _name(self, number: int) -> str:
        return f"{self.video.path.stem}_{number:06d}"


@dataclass(frozen=True, kw_only=True)
class DataSetFrames:
    """Frames of a data set, with its own cameras and poses."""

    dataset: FrameDataset

    @property
    def num_frames(self) -> int:
        """How many there are."""
        return len(self.dataset)

    def frames(self, detector: Detector, done: Container[str]) -> Iterator[Frame]:
        """Read frames ahead, in `input.loader_processes`."""
        missing = [i for i, name in enumerate(self.dataset.frame_ids) if name not in done]
        processes = detector.config.input.loader_processes
        return read_frames(self.dataset, missing, num_workers=processes)


PredictionInput = ImageFiles | VideoFile | DataSetFrames


def open_data_set(detector: Detector) -> list[PredictionInput]:
    """The validation split of the data in the detector's config; labels are not looked at.

    Raises:
        DataError: If the data set cannot be read.
    """
    dataset = build_dataset(detector.config, "val", with_points=False, has_labels=False)
    return [DataSetFrames(dataset=dataset)]


def open_files(
    paths: Sequence[DataPath],
    camera_of: Callable[[DataPath], Camera],
    *,
    camera_height_m: float | None = None,
    every: int = 1,
) -> list[PredictionInput]:
    """Images and videos, with their cameras.

    Args:
        paths: Files, and folders whose PNG and JPEG images are meant. Videos must be local.
        camera_of: Tells the camera of a file.
        camera_height_m: Of a level camera above the ground; None if it is not known.
        every: Of a video, only frames whose number is a multiple of it.

    Raises:
        DataError: If there is no such file, no image in a folder, or a file is no video.
        ConfigError: If results of two files would have the same name, or the height is none.
        Mono3dError: What `camera_of` raises.
    """
    if camera_height_m is not None and not 0 < camera_height_m < math.inf:
        raise ConfigError(f"--camera-height={camera_height_m}: must be above 0 and finite")
    images, videos = _find_files(paths)
    opened: list[PredictionInput] = []
    if images:
        cameras = [camera_of(path) for path in images]
        opened.append(ImageFiles(files=images, cameras=cameras, camera_height_m=camera_height_m))
    for path in videos:
        video = open_video(path)
        camera = camera_of(path)
        opened.append(
            VideoFile(video=video, camera=camera, camera_height_m=camera_height_m, every=every)
        )
    return opened


def _find_files(paths: Sequence[DataPath]) -> tuple[list[DataPath], list[Path]]:
    """Images and videos that paths name."""
    files: list[DataPath] = []
    for path in paths:
        if path.is_dir():
            inside = [path / name for name in list_names(path)]
            inside = [file for file in inside if file.suffix.lower() in _IMAGES]
            if not inside:
                raise DataError(f"{path}: holds no PNG or JPEG image")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path}: no such image, video or folder")
    videos = [_local_video(path) for path in files if path.suffix.lower() in _VIDEOS]
    images = [path for path in files if path.suffix.lower() not in _VIDEOS]
    stems = Counter(path.stem for path in files)
    # Images that were made of a video are named like its frames.
    frames_of = {path.stem for path in videos}
    stems.update(path.stem for path in images if path.stem.rpartition("_")[0] in frames_of)
    twice = next((stem for stem, count in stems.items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"inputs: two are named {twice}, and results are named like them")
    return images, videos


def _local_video(path: DataPath) -> Path:
    if not isinstance(path, Path):
        raise DataError(f"{path}: a video must be a file of this machine")
    return path


def _frame(
    detector: Detector,
    name: str,
    image: UInt8[np.ndarray, "h w 3"],
    camera: Camera,
    camera_height_m: float | None,
) -> Frame:
    return detector.frame(
        image,
        camera.projection,
        distortion=camera.distortion,
        bev_from_cam=None if camera_height_m is None else detector.level_pose(camera_height_m),
        name=name,
    )
