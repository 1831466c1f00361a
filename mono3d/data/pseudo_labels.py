"""Boxes that a detector found in frames that nobody labelled, learnt as if they were labels.

A file has JSON lines: who found the boxes, then the boxes of one moment a line, in the bev frame of
their data set. `mono3d pseudo-label` writes it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from torch import Tensor

from mono3d.codec.box_frames import boxes_in_camera
from mono3d.data.files import DataPath, read_text
from mono3d.data.kitti import KittiDataset
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.errors import ConfigError, DataError
from mono3d.structures import Boxes3D, Frame

FORMAT = "mono3d pseudo-labels 1"
Folder = KittiDataset | NuScenesDataset
_SAME_BRIGHTNESS = 0.5
"""Unlike decoders of JPEG differ by far less in the mean of an image, unlike images by far more."""
_Meters = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Line = TypeVar("_Line", bound="_Strict")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class PseudoLabelHeader(_Strict):
    """Who found the boxes of a file, and among what."""

    format: Literal["mono3d pseudo-labels 1"]
    teacher: dict[str, Any]
    """Checkpoint, its step, fingerprint and data."""
    frames: dict[str, Any]
    """Folder, split and fingerprint of what was looked at."""
    class_names: tuple[str, ...]
    cameras: tuple[str, ...]
    min_scores: dict[str, float]
    """Class → weaker boxes are left out."""


class PseudoBox(_Strict):
    """A box of the bev frame (x forward, y left, z up)."""

    class_name: str = Field(alias="class")
    score: float = Field(ge=0, le=1)
    center_xyz_m: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    dims_hwl_m: tuple[_Meters, _Meters, _Meters]
    yaw_rad: FiniteFloat
    cameras: tuple[str, ...]
    """Those whose image it meets."""


class FoundMoment(_Strict):
    """All that was found in the cameras of a moment."""

    brightness: dict[str, FiniteFloat]
    """Camera → see `brightness_of`: names alone do not tell frames of unlike folders apart."""
    boxes: tuple[PseudoBox, ...]


class _Head(_Strict):
    call: PseudoLabelHeader


class _Moment(FoundMoment):
    frame: str
    """KITTI: name of the frame; nuScenes: token of the sample."""


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """The boxes of a file, those of all moments one after the other."""

    source: str
    header: PseudoLabelHeader
    boxes: Boxes3D
    """In the bev frame of their moment."""
    is_seen: Bool[Tensor, "n cameras"]
    """By each camera of the header."""
    rows: Mapping[str, slice]
    """Moment → its boxes."""
    brightness: Mapping[str, Mapping[str, float]]
    """Moment → see `FoundMoment`."""
    digest: str
    """sha256 of all that decides the boxes."""

    def seen(self, moment: str, cameras: Sequence[str]) -> Bool[Tensor, "n cameras"]:
        """Which of some cameras see each box of a moment."""
        columns = [self.header.cameras.index(name) for name in cameras]
        return self.is_seen[self.rows[moment]][:, columns]


def read_header(path: DataPath, first_line: str) -> PseudoLabelHeader:
    """What the first line of a file says.

    Raises:
        DataError: It is no header.
    """
    return _parsed(_Head.model_validate_json, path, 1, first_line).call


def read_pseudo_labels(
    path: DataPath, class_names: Sequence[str], *, min_score: float = 0.0
) -> PseudoLabels:
    """Read a file.

    Args:
        path: Of the file.
        class_names: Of the run, in the order of labels; boxes of other classes are left out.
        min_score: Weaker boxes are left out.

    Raises:
        ConfigError: Nobody looked for one of the classes.
        DataError: The file is missing, cut short, or says what cannot be.
        StorageError: If the store that holds it cannot be used.
    """
    lines = read_text(path).split("\n")
    if lines.pop():
        raise DataError(f"{path}: its last line is cut short; run mono3d pseudo-label again")
    head = read_header(path, lines[0] if lines else "")
    unknown = [name for name in class_names if name not in head.class_names]
    if unknown:
        raise ConfigError(
            f"{path}: class {unknown[0]}: its detector looked for {', '.join(head.class_names)} "
            "alone, so objects of that class would be learnt as background"
        )
    known = {name: label for label, name in enumerate(class_names)}
    table = _Table()
    for number, line in enumerate(lines[1:], 2):
        moment = _parsed(_Moment.model_validate_json, path, number, line)
        _check(moment, head, table, f"{path}:{number}")
        table.add(moment, known, head.cameras, min_score)
    decides = json.dumps([list(class_names), min_score, head.class_names, head.cameras])
    return PseudoLabels(
        source=str(path),
        header=head,
        boxes=table.boxes(),
        is_seen=torch.tensor(table.seen, dtype=torch.bool).reshape(-1, len(head.cameras)),
        rows=table.rows,
        brightness=table.brightness,
        digest=hashlib.sha256("\n".join([decides, *lines[1:]]).encode()).hexdigest(),
    )


class _Table:
    """Columns of the boxes that are learnt; nothing is kept of a line but its numbers."""

    def __init__(self) -> None:
        self.numbers: list[tuple[float, ...]] = []
        self.labels: list[int] = []
        self.seen: list[list[bool]] = []
        self.rows: dict[str, slice] = {}
        self.brightness: dict[str, Mapping[str, float]] = {}

    def add(
        self, moment: _Moment, known: Mapping[str, int], cameras: Sequence[str], min_score: float
    ) -> None:
        first = len(self.labels)
        for box in moment.boxes:
            if box.class_name in known and box.score >= min_score:
                self.numbers.append((*box.center_xyz_m, *box.dims_hwl_m, box.yaw_rad))
                self.labels.append(known[box.class_name])
                self.seen.append([name in box.cameras for name in cameras])
        self.rows[moment.frame] = slice(first, len(self.labels))
        self.brightness[moment.frame] = moment.brightness

    def boxes(self) -> Boxes3D:
        """Without velocity and attributes: what one sweep or image says of them is a guess."""
        count = len(self.labels)
        numbers = torch.tensor(self.numbers).reshape(-1, 7)
        unknown = torch.full((count,), -1)
        return Boxes3D(
            centers=numbers[:, :3].contiguous(),
            dims_hwl=numbers[:, 3:6].contiguous(),
            yaw=numbers[:, 6].contiguous(),
            labels=torch.tensor(self.labels, dtype=torch.int64),
            velocity=torch.full((count, 2), torch.nan),
            attributes=unknown,
            object_ids=torch.arange(count),
            num_points=unknown,
            visibility=torch.full((count,), torch.nan),
            valid=torch.ones(count, dtype=torch.bool),
        )


def _check(moment: _Moment, head: PseudoLabelHeader, table: _Table, place: str) -> None:
    """What a line says must fit the lines before it."""
    if moment.frame in table.rows:
        raise DataError(f"{place}: frame {moment.frame}: there is a line of it already")
    for number, box in enumerate(moment.boxes):
        if box.class_name not in head.class_names:
            raise DataError(
                f"{place}: boxes.{number}.class={box.class_name}: is none of the first line's "
                f"{', '.join(head.class_names)}"
            )
    named = {name for box in moment.boxes for name in box.cameras} | moment.brightness.keys()
    others = named - set(head.cameras)
    if others:
        raise DataError(
            f"{place}: camera {min(others)}: is none of the first line's {', '.join(head.cameras)}"
        )


def _parsed(parse: Callable[[str], _Line], path: DataPath, number: int, line: str) -> _Line:
    try:
        return parse(line)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        value = first["input"]
        told = f"{key}={value!r}: " if isinstance(value, str | int | float) else f"{key}: "
        raise DataError(f"{path}:{number}: {told if key else ''}{first['msg']}") from error


class PseudoLabelled:
    """A folder's frames with boxes of a file as their labels. Picklable if the folder is."""

    def __init__(self, folder: Folder, labels: PseudoLabels) -> None:
        """Join them, and read a frame to see that they belong together.

        Args:
            folder: Opened without labels.
            labels: Of its moments.

        Raises:
            DataError: The file does not have all frames, or not all their cameras, or is of other
                images; or the first frame cannot be read.
        """
        missing = [
            moment
            for moment in map(folder.moment_of, range(len(folder)))
            if moment not in labels.rows
        ]
        if missing:
            raise DataError(
                f"{labels.source}: has no line for {len(missing)} of the {len(folder)} frames, "
                f"such as {missing[0]}; it was made of {labels.header.frames}"
            )
        unseen = set(folder.cameras) - set(labels.header.cameras)
        if unseen:
            raise DataError(
                f"{labels.source}: camera {min(unseen)}: was not looked at, only "
                f"{', '.join(labels.header.cameras)}"
            )
        self.folder = folder
        self.labels = labels
        self[0]

    def __len__(self) -> int:
        return len(self.folder)

    @property
    def frame_ids(self) -> list[str]:
        """Names of all frames, in order."""
        return self.folder.frame_ids

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the frames' own and the boxes."""
        both = f"{self.folder.fingerprint} {self.labels.digest}"
        return hashlib.sha256(both.encode()).hexdigest()

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            DataError: As the folder does, or the file's boxes are of another image.
            IndexError: Past the end.
        """
        frame = self.folder[index]
        moment = self.folder.moment_of(index)
        self._check_same_image(frame, self.labels.brightness[moment])
        is_seen = self.labels.seen(moment, frame.camera_names)
        kept = is_seen.any(1)
        boxes = self.labels.boxes.select(self.labels.rows[moment]).select(kept)
        return replace(
            frame,
            boxes_bev=boxes,
            boxes_cam=tuple(
                boxes_in_camera(boxes.select(seen), pose)
                for seen, pose in zip(is_seen[kept].T, frame.bev_from_cam, strict=True)
            ),
        )

    def frame_labels(self, index: int) -> Int64[np.ndarray, " n"] | None:
        """Classes of the frame's boxes, without reading its images."""
        moment = self.folder.moment_of(index)
        kept = self.labels.seen(moment, self.folder.cameras_of(index)).any(1)
        labels: Int64[np.ndarray, " n"] = self.labels.boxes.labels[self.labels.rows[moment]][
            kept
        ].numpy()
        return labels

    def camera_labels(self, index: int) -> list[tuple[Boxes3D, Float[Tensor, "3 4"]]]:
        """No boxes, and projections: nothing is measured against what a detector said."""
        return self.folder.camera_labels(index)

    def moment_of(self, index: int) -> str:
        """Name of the moment that the frame shows."""
        return self.folder.moment_of(index)

    def _check_same_image(self, frame: Frame, known: Mapping[str, float]) -> None:
        for name, own in brightness_of(frame).items():
            if name not in known or abs(known[name] - own) > _SAME_BRIGHTNESS:
                raise DataError(
                    f"{self.labels.source}: frame {frame.frame_id}: was another image, in "
                    f"{self.labels.header.frames['source']}: its {name} had a mean brightness of "
                    f"{known.get(name)}, this one has {own}"
                )


def brightness_of(frame: Frame) -> dict[str, float]:
    """Camera → mean of every fourth pixel of every fourth row of its image, to a hundredth."""
    means = [round(float(image[:, ::4, ::4].numpy().mean()), 2) for image in frame.images]
    return dict(zip(frame.camera_names, means, strict=True))
