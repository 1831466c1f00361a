"""Boxes as differences to anchors: at each cell, for each class, one box along x and one along y.

Source: SECOND (Yan et al., Sensors 2018), section 3.2, and PointPillars (arXiv:1812.05784), section
4.2, for residuals and matching; CaDDN (arXiv:2103.01100) has the same head on images. Overlaps for
matching are those of boxes turned to the nearest axis. A residual of the yaw leaves the direction
open, which is a choice of its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mono3d.codec.bev_codec import BevCodec, BevTargets
from mono3d.codec.heading import encode_direction, in_direction
from mono3d.codec.point_codec import MAX_LOG_DIMS, gather_points
from mono3d.structures import Batch, Boxes3D, Inputs, Positives, map_tensors

ROTATIONS = 2
"""Anchors of a class at a cell: yaw 0 and a quarter turn."""
BOX_CODES = 7
"""x, y, z by the anchor's diagonal (z by its height), ln of height, width and length, yaw."""
_TIE = 1e-6
"""Share by which a later object's overlap counts less: breaks ties, changes nothing else."""


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """Places and sizes of anchors at some indices."""

    centers: Float[Tensor, "*n 3"]
    dims_hwl: Float[Tensor, "*n 3"]
    yaw: Float[Tensor, "*n"]


class AnchorCodec(BevCodec):
    """Anchors of all cells, cell after cell, class after class, then the two rotations."""

    def __init__(self, *, positive_iou: float, negative_iou: float, **common: Any) -> None:
        """Keep the settings.

        Args:
            positive_iou: Anchors with this overlap learn the object, and its best one anyway.
            negative_iou: Anchors with less learn that nothing is there; between the two, nothing.
            common: Of `BevCodec`.
        """
        super().__init__(**common)
        self._positive_iou = positive_iou
        self._negative_iou = negative_iou

    @property
    def anchors_per_cell(self) -> int:
        """Of all classes."""
        return ROTATIONS * len(self._mean_dims[torch.device("cpu")])

    def anchors_at(self, index: Int64[Tensor, "*n"]) -> Anchors:
        """The anchors of some indices."""
        cell, number = index // self.anchors_per_cell, index % self.anchors_per_cell
        columns = self.grid.size[1]
        cells = torch.stack([cell % columns, cell // columns], dim=-1).float()
        dims = self.mean_dims(index.device)[number // ROTATIONS]
        height = self._ground_m + dims[..., :1] / 2
        return Anchors(
            centers=torch.cat([self.grid.to_places(cells), height], dim=-1),
            dims_hwl=dims,
            yaw=(number % ROTATIONS) * (math.pi / 2),
        )

    def overlaps(self, boxes: Boxes3D) -> Float[Tensor, "b k rotations y x"]:
        """IoU of each object with the anchors of its own class, both along the axes."""
        device = boxes.yaw.device
        places = self.grid.cell_centers(device).unflatten(0, self.grid.size)
        x, y = places[0, :, 0], places[:, 0, 1]
        is_across = (torch.remainder(boxes.yaw + math.pi / 4, math.pi) >= math.pi / 2)[..., None]
        width_length = boxes.dims_hwl[..., 1:]
        own = torch.where(is_across, width_length, width_length.flip(-1))
        anchor = self.mean_dims(device)[boxes.labels][..., 1:].flip(-1)
        sides = torch.stack([anchor, anchor.flip(-1)], dim=-2)  # [b k rotations 2]

        def shared(axis: int, places: Tensor) -> Tensor:
            center, half = boxes.centers[..., axis, None, None], own[..., axis, None, None] / 2
            reach = sides[..., axis, None] / 2
            high = torch.minimum(center + half, places + reach)
            return (high - torch.maximum(center - half, places - reach)).clamp(min=0)

        area = shared(1, y)[..., None] * shared(0, x)[..., None, :]
        united = (own[..., 0] * own[..., 1])[..., None] + sides[..., 0] * sides[..., 1]
        return area / (united[..., None, None] - area)

    def positives(self, boxes: Boxes3D) -> Positives:
        """Anchors that overlap an object enough, and the best of each object; of many, the best."""
        used = boxes.valid.any(0).nonzero()
        slots = int(used.max()) + 1 if len(used) else 1  # empty slots need no overlaps
        boxes = map_tensors(boxes, lambda values: values[:, :slots])
        matched = self._matched(boxes)
        kept, flat = matched.flatten(1).topk(min(self._max_positives, matched[0].numel()))
        rows, columns = self.grid.size
        slot, place = flat // (ROTATIONS * rows * columns), flat % (ROTATIONS * rows * columns)
        rotation, cell = place // (rows * columns), place % (rows * columns)
        number = boxes.labels.gather(1, slot) * ROTATIONS + rotation
        found = Positives(
            index=cell * self.anchors_per_cell + number,
            slot=slot,
            weight=torch.ones(kept.shape),
            box_px=torch.zeros(*kept.shape, 4),
            valid=kept > 0,
        )
        return map_tensors(found, lambda values: _padded(values, self._max_positives))

    def _matched(self, boxes: Boxes3D) -> Float[Tensor, "b k rotations y x"]:
        """Overlap with the object that an anchor learns, plus one for an object's best; else 0."""
        found = self.overlaps(boxes) * boxes.valid[..., None, None, None]
        best = found.flatten(2).amax(-1)[..., None, None, None]
        wanted = torch.where(found >= self._positive_iou, found, 0.0)
        is_best = torch.where(best > 0, found == best, self._is_own(boxes))
        wanted = torch.where(is_best & boxes.valid[..., None, None, None], found + 1, wanted)
        # Of its class it learns the object that it overlaps most; of equal ones the first.
        order = torch.arange(boxes.labels.shape[1], device=boxes.labels.device)
        wanted = wanted * (1 - _TIE * order)[:, None, None, None]
        label = boxes.labels[..., None, None, None].expand_as(wanted)
        highest = self._highest(wanted, boxes).gather(1, label)
        return torch.where(wanted == highest, wanted, 0.0)

    def _is_own(self, boxes: Boxes3D) -> Bool[Tensor, "b k rotations y x"]:
        """The anchors of an object's own cell.

        People are smaller than the cells of a coarse grid, and may overlap none. Source: ours.
        """
        rows, columns = self.grid.size
        cells, _ = self.grid.nearest_cells(boxes.centers[..., :2])
        at_row = cells[..., 1:] == torch.arange(rows, device=cells.device)
        at_column = cells[..., :1] == torch.arange(columns, device=cells.device)
        is_there = at_row[..., :, None] & at_column[..., None, :]
        return is_there[:, :, None].expand(-1, -1, ROTATIONS, -1, -1)

    def _highest(
        self, values: Float[Tensor, "b k rotations y x"], boxes: Boxes3D
    ) -> Float[Tensor, "b classes rotations y x"]:
        """Greatest value of the objects of each class, anchor by anchor."""
        label = boxes.labels[..., None, None, None].expand_as(values)
        classes = len(self.mean_dims(values.device))
        lowest = values.new_zeros(len(values), classes, *values.shape[2:])
        return lowest.scatter_reduce(1, label, values, "amax")

    def is_ignored(self, batch: Batch) -> Bool[Tensor, "b anchors"]:
        """Anchors that overlap an object of their class too much to be background.

        Those that learn one are among them.
        """
        boxes = batch.boxes_bev
        found = self.overlaps(boxes) * boxes.valid[..., None, None, None]
        highest = self._highest(found, boxes)
        return (highest >= self._negative_iou).permute(0, 3, 4, 1, 2).flatten(1)

    def residuals(self, boxes: Boxes3D, index: Int64[Tensor, "*n"]) -> Float[Tensor, "*n 7"]:
        """What anchors should say for boxes to come out."""
        anchors = self.anchors_at(index)
        away = (boxes.centers - anchors.centers) / _units(anchors)
        sizes = (boxes.dims_hwl / anchors.dims_hwl).log()
        return torch.cat([away, sizes, (boxes.yaw - anchors.yaw)[..., None]], dim=-1)

    def boxes_said(self, said: Mapping[str, Tensor], *, index: Tensor) -> Boxes3D:
        """Decode the responses [b k ...] of given anchors; differentiable but for the direction."""
        anchors, codes = self.anchors_at(index), said["box_residuals"]
        centers = anchors.centers + codes[..., :3] * _units(anchors)
        dims = codes[..., 3:6].clamp(-MAX_LOG_DIMS, MAX_LOG_DIMS).exp() * anchors.dims_hwl
        yaw = in_direction(anchors.yaw + codes[..., 6], said["direction"].argmax(-1))
        return Boxes3D(
            centers=centers,
            dims_hwl=dims,
            yaw=yaw,
            labels=index % self.anchors_per_cell // ROTATIONS,
            velocity=torch.full_like(centers[..., :2], torch.nan),
            attributes=torch.full_like(index, -1),
            object_ids=index,
            num_points=torch.full_like(index, -1),
            visibility=torch.full_like(yaw, torch.nan),
            valid=torch.ones_like(index, dtype=torch.bool),
        )

    def responses_of(self, targets: BevTargets) -> dict[str, Tensor]:
        """Responses at the positives that say their objects exactly."""
        direction = F.one_hot(encode_direction(targets.boxes.yaw), 2).float()
        residuals = self.residuals(targets.boxes, targets.index)
        return {"box_residuals": residuals, "direction": direction}

    def decode(
        self, responses: Mapping[str, Tensor], inputs: Inputs, *, top_k: int
    ) -> tuple[Boxes3D, Float[Tensor, "b k"]]:
        """The best anchors, each for its likeliest class; the score is that probability."""
        scores, labels = responses["class_logits"].float().sigmoid().max(-1)
        best, index = scores.topk(min(top_k, scores.shape[1]))
        names = ("box_residuals", "direction")
        said = {name: gather_points(responses[name], index).float() for name in names}
        boxes = self.boxes_said(said, index=index)
        return replace(boxes, labels=labels.gather(1, index)), best


def _units(anchors: Anchors) -> Float[Tensor, "*n 3"]:
    """Of the residuals of places: the footprint's diagonal, twice, and the height."""
    height, width, length = anchors.dims_hwl.unbind(-1)
    diagonal = torch.hypot(width, length)
    return torch.stack([diagonal, diagonal, height], dim=-1)


def _padded(values: Tensor, count: int) -> Tensor:
    room = values.new_zeros(len(values), count, *values.shape[2:])
    room[:, : values.shape[1]] = values
    return room
