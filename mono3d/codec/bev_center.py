"""Boxes at the peaks of a heat map in bird's-eye view.

Source: CenterPoint (arXiv:2006.11275), section 4: the cell of an object's centre says offset,
height, size, heading and velocity, and the map has a Gaussian bump there of at least two cells.
Ours: sizes are logarithms against the mean of the class, heights are above the ground, and the
heading is an axis and a direction (`AxisHeading`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mono3d.codec.bev_codec import BevCodec, BevTargets
from mono3d.codec.heading import AxisHeading
from mono3d.codec.heatmap import bump_radius, draw_bumps
from mono3d.codec.point_codec import MAX_LOG_DIMS, gather_points, level_peaks
from mono3d.structures import Boxes3D, Inputs, Positives, map_tensors

_LEAST_RADIUS = 2.0
"""Cells, as in CenterPoint: objects are small on the ground."""
_BOX_RESPONSES = ("offset", "height", "log_dims", "velocity", "attribute", *AxisHeading.channels)


@dataclass(frozen=True, kw_only=True)
class CellTargets:
    """What each positive should say; b frames, p padded positives."""

    heatmap: Float[Tensor, "b cells classes"]
    offset: Float[Tensor, "b p 2"]
    """From the cell's middle to the centre, in cells."""
    height: Float[Tensor, "b p 1"]
    """Of the centre above the ground, metres."""
    log_dims: Float[Tensor, "b p 3"]
    """ln(size / mean size of the class), height, width, length."""
    velocity: Float[Tensor, "b p 2"]
    velocity_known: Bool[Tensor, "b p"]
    attribute_known: Bool[Tensor, "b p"]


class BevCenterCodec(BevCodec):
    """One cell an object; of two in one cell, the nearer has it."""

    heading = AxisHeading()

    def positives(self, boxes: Boxes3D) -> Positives:
        """The cell of each object, the nearest object first; those beyond the room are left out."""
        distance = boxes.centers[..., :2].norm(dim=-1)
        order = torch.where(boxes.valid, distance, torch.inf).argsort(dim=-1, stable=True)
        cells, _ = self.grid.nearest_cells(boxes.centers[..., :2])
        index = (cells[..., 1] * self.grid.size[1] + cells[..., 0]).gather(-1, order)
        valid = boxes.valid.gather(-1, order)
        is_same = index[..., :, None] == index[..., None, :]
        is_taken = (is_same & valid[..., None, :]).tril(-1).any(-1)
        found = Positives(
            index=index,
            slot=order,
            weight=torch.ones(index.shape),
            box_px=torch.zeros(*index.shape, 4),
            valid=valid & ~is_taken,
        )
        return map_tensors(found, lambda values: values[:, : self._max_positives])

    def cell_targets(self, targets: BevTargets) -> CellTargets:
        """Heat map and regressions of the positives."""
        boxes = targets.boxes
        rows, columns = self.grid.size
        cells = torch.stack([targets.index % columns, targets.index // columns], dim=-1)
        footprint = boxes.dims_hwl[..., 1:].flip(-1) / self.grid.cell_m
        return CellTargets(
            heatmap=draw_bumps(
                cells,
                bump_radius(footprint).clamp(min=_LEAST_RADIUS),
                boxes.labels,
                boxes.valid,
                num_channels=len(self.mean_dims(boxes.yaw.device)),
                size=(rows, columns),
            ),
            offset=self.grid.to_cells(boxes.centers[..., :2]) - cells,
            height=boxes.centers[..., 2:] - self._ground_m,
            log_dims=(boxes.dims_hwl / self.mean_dims(boxes.yaw.device)[boxes.labels]).log(),
            velocity=boxes.velocity.nan_to_num(0.0),
            velocity_known=boxes.valid & boxes.velocity.isfinite().all(-1),
            attribute_known=boxes.valid & (boxes.attributes >= 0),
        )

    def decode(
        self, responses: Mapping[str, Tensor], inputs: Inputs, *, top_k: int
    ) -> tuple[Boxes3D, Float[Tensor, "b k"]]:
        """Cells that no neighbour exceeds in a class; the score is the class probability."""
        scores = responses["class_logits"].float().sigmoid()
        num_classes = scores.shape[-1]
        peaks = level_peaks(scores, self.grid.size)
        best, flat = peaks.flatten(1).topk(min(top_k, peaks[0].numel()))
        index, labels = flat // num_classes, flat % num_classes
        said = {name: gather_points(responses[name], index).float() for name in _BOX_RESPONSES}
        return self.boxes_said(said, index=index, labels=labels), best

    def boxes_said(self, said: Mapping[str, Tensor], *, index: Tensor, labels: Tensor) -> Boxes3D:
        """Decode the responses [b k ...] of given cells as boxes of given classes.

        Differentiable but for the choice of a direction.
        """
        columns = self.grid.size[1]
        cells = torch.stack([index % columns, index // columns], dim=-1) + said["offset"]
        places = self.grid.to_places(cells)
        dims = said["log_dims"].clamp(-MAX_LOG_DIMS, MAX_LOG_DIMS).exp()
        return Boxes3D(
            centers=torch.cat([places, said["height"] + self._ground_m], dim=-1),
            dims_hwl=dims * self.mean_dims(index.device)[labels],
            yaw=self.heading.decode(said),
            labels=labels,
            velocity=said["velocity"],
            attributes=said["attribute"].argmax(-1),
            object_ids=index,
            num_points=torch.full_like(index, -1),
            visibility=torch.full_like(places[..., 0], torch.nan),
            valid=torch.ones_like(index, dtype=torch.bool),
        )

    def responses_of(self, targets: BevTargets) -> dict[str, Tensor]:
        """Responses at the positives that say their objects exactly."""
        wanted = self.cell_targets(targets)
        return {
            "offset": wanted.offset,
            "height": wanted.height,
            "log_dims": wanted.log_dims,
            "velocity": wanted.velocity,
            "attribute": F.one_hot(targets.boxes.attributes.clamp(min=0)).float(),
            **self.heading.encode(targets.boxes.yaw),
        }
