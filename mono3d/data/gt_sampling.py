"""Objects of other frames, pasted with their LiDAR points: more of them in every frame to learn.

Source: GT sampling of SECOND (Yan et al., Sensors 2018), section 3.2: objects of a data base built
beforehand are placed where they were, unless they collide. Ours reads a few other frames in place
of a data base: there is nothing to build, to store or to keep in step with labels, and what is
pasted is a function of (seed, epoch, index) like all augmentation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mono3d.codec.image_objects import boxes_in_image
from mono3d.geometry.box_iou import footprints_bev
from mono3d.geometry.fast_iou import pairwise_bev_iou, rotated_nms
from mono3d.structures import Boxes3D, Frame

_LEAST_POINTS = 5
"""Of an object that is worth pasting, as in the configurations of PointPillars' authors."""


@runtime_checkable
class HasLidarObjects(Protocol):
    """A data set whose labelled sweeps can be read without images."""

    def lidar_objects(self, index: int) -> tuple[Float[Tensor, "n 4"], Boxes3D]:
        """Points and objects of a labelled frame, in the bev frame."""
        ...


@dataclass(frozen=True, kw_only=True)
class ObjectPaster:
    """Pastes objects of a data set into its own frames; a plain value that crosses processes."""

    source: HasLidarObjects
    frames_of_class: Mapping[int, Int64[np.ndarray, " frames"]]
    """Frames that hold an object of each class; classes that no frame holds are not there."""
    num_frames: int
    """Frames that are read for one."""
    per_class: int
    """Objects of a class that a frame has at most after pasting, unless it had more."""

    def __call__(self, frame: Frame, generator: torch.Generator) -> Frame:
        """The frame with more objects: their points in, points of its own inside them out.

        Args:
            frame: With points; one without labels stays as it is.
            generator: Its next numbers decide.
        """
        if frame.boxes_bev is None or frame.points is None or not self.frames_of_class:
            return frame
        found = [self._draw(generator) for _ in range(self.num_frames)]
        points = torch.cat([own for own, _ in found])
        boxes = join_boxes([own for _, own in found])
        owner = torch.cat([
            _owners(own_points, own) + start
            for (own_points, own), start in zip(found, _starts(found), strict=True)
        ])  # fmt: skip
        kept = self._fitting(frame, boxes, owner, generator)
        if not len(kept):
            return frame
        is_kept = torch.zeros(len(boxes), dtype=torch.bool).index_fill(0, kept, True)
        return _pasted(frame, boxes.select(kept), points[is_kept[owner]])

    def _draw(self, generator: torch.Generator) -> tuple[Float[Tensor, "n 4"], Boxes3D]:
        """Objects of a frame that holds a class, each class as likely; points in boxes alone."""
        classes = sorted(self.frames_of_class)
        chosen, place = torch.rand(2, generator=generator).tolist()
        frames = self.frames_of_class[classes[int(chosen * len(classes))]]
        points, boxes = self.source.lidar_objects(int(frames[int(place * len(frames))]))
        return points[_owners(points, boxes) < len(boxes)], boxes

    def _fitting(
        self,
        frame: Frame,
        boxes: Boxes3D,
        owner: Int64[Tensor, " n"],
        generator: torch.Generator,
    ) -> Int64[Tensor, " kept"]:
        """Boxes that are seen, hold points, collide with nothing and are not too many."""
        assert frame.boxes_bev is not None
        counts = torch.bincount(owner, minlength=len(boxes))
        usable = (counts >= _LEAST_POINTS) & _is_seen(frame, boxes)
        own, theirs = (_footprints(b) for b in (frame.boxes_bev, boxes))
        usable &= torch.from_numpy((pairwise_bev_iou(theirs, own) > 0).sum(1) == 0)
        candidates = usable.nonzero()[:, 0]
        luck = torch.rand(len(candidates), generator=generator).double().numpy()
        alike = np.zeros(len(candidates), np.int64)
        order = candidates[
            torch.from_numpy(rotated_nms(theirs[candidates.numpy()], luck, alike, 0.0))
        ]
        room = self.per_class - torch.bincount(
            frame.boxes_bev.labels, minlength=int(max(self.frames_of_class)) + 1
        )
        labels = boxes.labels[order]
        earlier = (labels[:, None] == labels).tril(-1).sum(1)
        return order[earlier < room[labels]]


def join_boxes(parts: Sequence[Boxes3D]) -> Boxes3D:
    """Boxes one after the other."""
    return Boxes3D(**{
        field.name: torch.cat([getattr(part, field.name) for part in parts])
        for field in fields(Boxes3D)
    })  # fmt: skip


def points_in_boxes(points: Float[Tensor, "n 4"], boxes: Boxes3D) -> Bool[Tensor, "n k"]:
    """Which points of the bev frame lie in each of its boxes."""
    away = points[:, None, :3] - boxes.centers
    cos, sin = boxes.yaw.cos(), boxes.yaw.sin()
    along = away[..., 0] * cos + away[..., 1] * sin
    across = away[..., 1] * cos - away[..., 0] * sin
    height, width, length = (boxes.dims_hwl / 2).unbind(-1)
    return (along.abs() <= length) & (across.abs() <= width) & (away[..., 2].abs() <= height)


def _owners(points: Float[Tensor, "n 4"], boxes: Boxes3D) -> Int64[Tensor, " n"]:
    """The first box that holds each point, or the number of boxes."""
    inside = points_in_boxes(points, boxes)
    beyond = torch.ones(len(points), 1, dtype=torch.bool)
    return torch.cat([inside, beyond], dim=1).to(torch.int8).argmax(1)


def _starts(found: Sequence[tuple[Tensor, Boxes3D]]) -> list[int]:
    """Number of boxes before each part's."""
    counts = [0, *(len(boxes) for _, boxes in found)]
    return np.cumsum(counts)[:-1].tolist()  # type: ignore[no-any-return]


def _footprints(boxes: Boxes3D) -> Float[np.ndarray, "n 5"]:
    found, _ = footprints_bev(boxes.centers, boxes.dims_hwl, boxes.yaw)
    return found.double().numpy()


def _is_seen(frame: Frame, boxes: Boxes3D) -> Bool[Tensor, " k"]:
    """Whether one of the frame's cameras would have each box in its image."""
    views = [boxes_in_image(boxes, frame, camera)[1] for camera in range(len(frame.images))]
    return torch.stack(views).any(0)


def _pasted(frame: Frame, boxes: Boxes3D, points: Float[Tensor, "m 4"]) -> Frame:
    assert frame.boxes_bev is not None
    assert frame.boxes_cam is not None
    assert frame.points is not None
    known = frame.boxes_bev.object_ids
    first = int(known.max()) + 1 if len(known) else 0
    boxes = replace(boxes, object_ids=first + torch.arange(len(boxes)))
    hidden = points_in_boxes(frame.points, boxes).any(1)
    cameras = []
    for camera, own in enumerate(frame.boxes_cam):
        there, seen = boxes_in_image(boxes, frame, camera)
        cameras.append(join_boxes([own, there.select(seen)]))
    return replace(
        frame,
        boxes_bev=join_boxes([frame.boxes_bev, boxes]),
        boxes_cam=tuple(cameras),
        points=torch.cat([frame.points[~hidden], points]),
    )
