"""Boxes that a detector found in frames that nobody labelled, learnt as if they were labels.

A file has JSON lines: who found the boxes, then the boxes of one moment a line, in the bev frame of
their data set. `mono3d pseudo-label` writes it.
"""

import hashlib
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


class _Head(_Strict):
    call: PseudoLabelHeader


class PseudoMoment(_Strict):
    """All that was found in the cameras of a moment."""

    frame: str
    """KITTI: name of the frame; nuScenes: token of the sample."""
    boxes: tuple[PseudoBox, ...]


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
    digest: str
    """sha256 of all that decides the boxes."""

    def of(self, moment: str, cameras: Sequence[str]) -> tuple[Boxes3D, Bool[Tensor, "n cameras"]]:
        """Boxes of a moment that some of its cameras see, and which of them do."""
        rows = self.rows[moment]
        columns = [self.header.cameras.index(name) for name in cameras]
        is_seen = self.is_seen[rows][:, columns]
        kept = is_seen.any(1)
        return self.boxes.select(rows).select(kept), is_seen[kept]


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
    text = read_text(path)
    lines = text.split("\n")
    if lines.pop():
        raise DataError(f"{path}: its last line is cut short; run mono3d pseudo-label again")
    head = _parsed(_Head.model_validate_json, path, 1, lines[0] if lines else "").call
    unknown = [name for name in class_names if name not in head.class_names]
    if unknown:
        raise ConfigError(
            f"{path}: class {unknown[0]}: its detector looked for {', '.join(head.class_names)} "
            "alone, so objects of that class would be learnt as background"
        )
    moments = [
        _parsed(PseudoMoment.model_validate_json, path, number, line)
        for number, line in enumerate(lines[1:], 2)
    ]
    known = {name: label for label, name in enumerate(class_names)}
    kept = [
        [box for box in moment.boxes if box.class_name in known and box.score >= min_score]
        for moment in moments
    ]
    ends = np.cumsum([0, *map(len, kept)]).tolist()
    found = [box for boxes in kept for box in boxes]
    digest = hashlib.sha256(repr((tuple(class_names), min_score)).encode() + text.encode())
    return PseudoLabels(
        source=str(path),
        header=head,
        boxes=_as_boxes(found, [known[box.class_name] for box in found]),
        is_seen=torch.tensor(
            [[name in box.cameras for name in head.cameras] for box in found], dtype=torch.bool
        ).reshape(-1, len(head.cameras)),
        rows={
            moment.frame: slice(start, end)
            for moment, start, end in zip(moments, ends, ends[1:], strict=False)
        },
        digest=digest.hexdigest(),
    )


def _parsed(parse: Callable[[str], _Line], path: DataPath, number: int, line: str) -> _Line:
    try:
        return parse(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{path}:{number}: {f'{place}: ' if place else ''}{first['msg']}"
        ) from error


def _as_boxes(found: Sequence[PseudoBox], labels: Sequence[int]) -> Boxes3D:
    """Without velocity and attributes: what one sweep or image says of them is a guess."""
    count = len(found)
    unknown = torch.full((count,), -1)
    return Boxes3D(
        centers=torch.tensor([box.center_xyz_m for box in found]).reshape(-1, 3),
        dims_hwl=torch.tensor([box.dims_hwl_m for box in found]).reshape(-1, 3),
        yaw=torch.tensor([box.yaw_rad for box in found]).reshape(-1),
        labels=torch.tensor(labels, dtype=torch.int64),
        velocity=torch.full((count, 2), torch.nan),
        attributes=unknown,
        object_ids=torch.arange(count),
        num_points=unknown,
        visibility=torch.full((count,), torch.nan),
        valid=torch.ones(count, dtype=torch.bool),
    )


class PseudoLabelled:
    """A folder's frames with boxes of a file as their labels. Picklable if the folder is."""

    def __init__(self, folder: Folder, labels: PseudoLabels) -> None:
        """Join them.

        Args:
            folder: Opened without labels.
            labels: Of its moments.

        Raises:
            DataError: The file does not have all frames, or not all their cameras.
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

    def __len__(self) -> int:
        return len(self.folder)

    @property
    def frame_ids(self) -> list[str]:
        """Names of all frames, in order."""
        return self.folder.frame_ids

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the frames' own and the boxes."""
        return hashlib.sha256(
            f"{self.folder.fingerprint} {self.labels.digest}".encode()
        ).hexdigest()

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            DataError: As the folder does.
            IndexError: Past the end.
        """
        frame = self.folder[index]
        boxes, is_seen = self._boxes(index)
        return replace(
            frame,
            boxes_bev=boxes,
            boxes_cam=tuple(
                boxes_in_camera(boxes.select(seen), pose)
                for seen, pose in zip(is_seen.T, frame.bev_from_cam, strict=True)
            ),
        )

    def frame_labels(self, index: int) -> Int64[np.ndarray, " n"] | None:
        """Classes of the frame's boxes, without reading its images."""
        labels: Int64[np.ndarray, " n"] = self._boxes(index)[0].labels.numpy()
        return labels

    def camera_labels(self, index: int) -> list[tuple[Boxes3D, Float[Tensor, "3 4"]]]:
        """No boxes, and projections: nothing is measured against what a detector said."""
        return self.folder.camera_labels(index)

    def moment_of(self, index: int) -> str:
        """Name of the moment that the frame shows."""
        return self.folder.moment_of(index)

    def _boxes(self, index: int) -> tuple[Boxes3D, Bool[Tensor, "n cameras"]]:
        return self.labels.of(self.folder.moment_of(index), self.folder.cameras_of(index))
