"""Several data sets as one: their frames one set after the other, in bev frames that agree.

Data sets put the origin of the bev frame at different heights: nuScenes on the ground, KITTI in the
Velodyne, 1.73 m above it. A network that is told the ground plane, or that answers in the bev
frame, needs one height for all. So the bev frame of every member is moved along its z axis until
the ground is at z = 0; camera frames, in which monocular detectors answer, stay as they are.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mono3d.data.sampling import FrameDataset
from mono3d.errors import DataError
from mono3d.structures import Boxes3D, Frame


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of the data sets."""

    dataset: FrameDataset
    ground_height_m: float
    """Of the ground in its own bev frame."""
    share: float | None = None
    """How often its frames are drawn, together, relative to those of the other members. None, for
    all members: by their number."""


class MergedDataset:
    """All frames of all members; a frame is named by its member and its own name: `kitti/000001`.

    Picklable if its members are.
    """

    def __init__(self, members: Mapping[str, Member]) -> None:
        """Join members under their names, in which no slash may be; there is at least one."""
        self._members = dict(members)
        self._names = list(members)
        self._ends = list(accumulate(len(member.dataset) for member in members.values()))

    @property
    def members(self) -> Mapping[str, FrameDataset]:
        """Members' data sets, by name."""
        return {name: member.dataset for name, member in self._members.items()}

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def frame_ids(self) -> list[str]:
        """Names of all frames, in order."""
        return [
            f"{name}/{own}" for name, dataset in self.members.items() for own in dataset.frame_ids
        ]

    def locate(self, index: int) -> tuple[str, int]:
        """Member that holds a frame, and the frame's index there.

        Raises:
            IndexError: Past the end.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        return self._names[number], index - (self._ends[number - 1] if number else 0)

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            DataError: As the member does.
            IndexError: Past the end.
        """
        name, own = self.locate(index)
        member = self._members[name]
        frame = raised(member.dataset[own], -member.ground_height_m)
        return replace(frame, frame_id=f"{name}/{frame.frame_id}")

    def frame_labels(self, index: int) -> Int64[np.ndarray, " n"] | None:
        """Classes of the frame's objects, without reading its images. None: not labelled."""
        name, own = self.locate(index)
        return self._members[name].dataset.frame_labels(own)

    def camera_labels(self, index: int) -> list[tuple[Boxes3D, Float[Tensor, "3 4"]]]:
        """Camera-frame boxes and projection of each camera of a frame, without its images."""
        name, own = self.locate(index)
        return self._members[name].dataset.camera_labels(own)

    def moment_of(self, index: int) -> str:
        """Name of the moment that the frame shows, with its member's."""
        name, own = self.locate(index)
        return f"{name}/{self._members[name].dataset.moment_of(own)}"

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the members' names, fingerprints and ground heights, in their order."""
        facts = [
            (name, member.dataset.fingerprint, member.ground_height_m)
            for name, member in self._members.items()
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def first(self, count: int) -> list[int]:
        """Indices of the first frames of each member, of each as many, of about `count` in all."""
        of_each = max(count // len(self._members), 1)
        starts = [0, *self._ends[:-1]]
        return [
            index
            for start, end in zip(starts, self._ends, strict=True)
            for index in range(start, min(start + of_each, end))
        ]

    def shared_out(
        self, shares: Float[np.ndarray, " frames"] | None
    ) -> Float[np.ndarray, " frames"] | None:
        """How often each frame is drawn once members have their shares.

        Args:
            shares: How often each frame should be drawn; what is kept of it is the ratio between
                the frames of one member. None is equally often.

        Returns:
            The same where members have no share.

        Raises:
            DataError: A member has a share, but none of its frames may be drawn.
        """
        wanted = [member.share for member in self._members.values()]
        if None in wanted:
            return shares
        parts = np.split(np.ones(len(self)) if shares is None else shares, self._ends[:-1])
        for name, part in zip(self._members, parts, strict=True):
            if not part.any():
                raise DataError(
                    f"data set {name}: no frame holds an object of the classes, and empty frames "
                    "are not drawn"
                )
        scaled: Float[np.ndarray, " frames"] = np.concatenate(
            [part * (share / part.sum()) for part, share in zip(parts, wanted, strict=True)]
        )
        return scaled


def raised(frame: Frame, height_m: float) -> Frame:
    """The same moment in a bev frame whose origin lies lower, so that all in it is higher."""
    if height_m == 0:
        return frame
    lift = torch.tensor([0.0, 0.0, height_m])
    pose = frame.bev_from_cam.clone()
    pose[:, :3, 3] += lift
    boxes, points = frame.boxes_bev, frame.points
    return replace(
        frame,
        bev_from_cam=pose,
        boxes_bev=None if boxes is None else replace(boxes, centers=boxes.centers + lift),
        points=None if points is None else points + torch.nn.functional.pad(lift, (0, 1)),
    )
