"""The center detector's code: one cell of a heat map learns an object.

Source: MonoDLE (arXiv:2103.16237) for what a cell says and for the peak at the projected 3D centre;
MonoFlex (arXiv:2104.02323) for objects whose centre lies outside the image: their peak is where the
line from the middle of the 2D box to the centre leaves it; MonoCon (arXiv:2112.04628) for the
auxiliary keypoints. Ours: the 2D box is the hull of the projected cuboid, clipped to the image,
sizes are learnt as logarithms, and of two objects in one cell the nearer one has it.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.heading import BinHeading
from mono3d.codec.heatmap import bump_radius, draw_bumps
from mono3d.codec.point_codec import (
    BoxTargets,
    PointCodec,
    PositionConfidence,
    gather_points,
)
from mono3d.codec.points import level_size
from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.geometry.camera import MIN_DEPTH_M, is_in_image, project
from mono3d.structures import Batch, Boxes3D, Positives

NUM_KEYPOINTS = 9
"""Eight corners and the centre."""
_LEAST_SIDE_CELLS = 1e-2


@dataclass(frozen=True, kw_only=True)
class ImageTargets:
    """What the heat map and each positive should say of the image; n images, p positives."""

    heatmap: Float[Tensor, "n points classes"]
    box_2d: Float[Tensor, "n p 4"]
    """From the cell to the middle of the 2D box, in cells; ln of its width and height in cells."""


@dataclass(frozen=True, kw_only=True)
class KeypointTargets:
    """The projected corners and centres of the positives' objects."""

    heatmap: Float[Tensor, "n points keypoints"]
    inside: Bool[Tensor, "n p keypoints"]
    """Whether the keypoint lies in the image; those that do not are not taught."""
    offsets: Float[Tensor, "n p keypoints 2"]
    """From the object's cell, in cells."""
    index: Int64[Tensor, "n p keypoints"]
    """Cell of each keypoint."""
    rest: Float[Tensor, "n p keypoints 2"]
    """From that cell's point, in cells."""


class CenterCodec(PointCodec):
    """Encode and decode images of any size, on one grid and for one class list."""

    def __init__(
        self,
        *,
        stride: int,
        depth: LogDepthCodec,
        mean_dims_hwl: Float[Tensor, "classes 3"],
        min_points: int = 1,
        position: PositionConfidence | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            stride: Of the heat map, pixels.
            depth: The depth code.
            mean_dims_hwl: Mean size of each class, metres.
            min_points: Objects known to hold fewer LiDAR points are not learnt.
            position: What scores say of a box's position; None leaves that out.
        """
        super().__init__(
            strides=(stride,),
            depth=depth,
            heading=BinHeading(),
            mean_dims_hwl=mean_dims_hwl,
            min_points=min_points,
            position=position,
        )
        self._stride = stride
        self._num_classes = len(mean_dims_hwl)

    def positives(
        self, boxes: Boxes3D, projection: Float[Tensor, "*n 3 4"], image_size: tuple[int, int]
    ) -> Positives:
        """One cell an object, the nearest object first; fields have shape [*n k]."""
        found = self.read_points(boxes, projection, image_size)
        is_same = found.index[..., :, None] == found.index[..., None, :]
        has_nearer = (is_same & found.valid[..., None, :]).tril(-1).any(-1)
        return _without_rest(replace(found, valid=found.valid & ~has_nearer))

    def read_points(
        self, boxes: Boxes3D, projection: Float[Tensor, "*n 3 4"], image_size: tuple[int, int]
    ) -> Positives:
        """The cell of each object in the image, also where a nearer one has it."""
        corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
        projection = projection[..., None, :, :]
        box_px, is_inside = hull_2d(corners, projection, image_size)
        peaks_px = _pulled_inside(project(boxes.centers, projection), box_px, image_size)
        cells = self._nearest_cells(peaks_px, image_size)
        valid = self.is_learnt(boxes) & is_inside
        nearest = torch.where(valid, boxes.centers[..., 2], torch.inf).argsort(dim=-1, stable=True)
        index = cells[..., 1] * level_size(image_size, self._stride)[1] + cells[..., 0]
        return _without_rest(
            Positives(
                index=index.gather(-1, nearest),
                slot=nearest,
                weight=torch.ones(nearest.shape),
                box_px=box_px.gather(-2, nearest[..., None].expand(box_px.shape)),
                valid=valid.gather(-1, nearest),
            )
        )

    def image_targets(self, batch: Batch, targets: BoxTargets) -> ImageTargets:
        """Heat map and 2D boxes at the positives of a batch, on the batch's device."""
        grid = self.grid(batch.images)
        top_left, bottom_right = self._corners_2d(batch)
        sides = bottom_right - top_left
        middle = (top_left + bottom_right) / 2
        from_cell = middle - grid.centers_px[targets.index] / self._stride
        size = level_size((batch.images.shape[-2], batch.images.shape[-1]), self._stride)
        heatmap = draw_bumps(
            torch.stack([targets.index % size[1], targets.index // size[1]], dim=-1),
            bump_radius(sides),
            targets.labels,
            targets.valid,
            num_channels=self._num_classes,
            size=size,
        )
        log_sides = sides.clamp(min=_LEAST_SIDE_CELLS).log()
        return ImageTargets(heatmap=heatmap, box_2d=torch.cat([from_cell, log_sides], dim=-1))

    def keypoint_targets(self, batch: Batch, targets: BoxTargets) -> KeypointTargets:
        """Where corners and centres of the positives' objects are, on the batch's device."""
        image_size = (batch.images.shape[-2], batch.images.shape[-1])
        size = level_size(image_size, self._stride)
        boxes = batch.boxes_cam
        centers, dims, yaw = (
            gather_points(values.flatten(0, 1), targets.object_ids)
            for values in (boxes.centers, boxes.dims_hwl, boxes.yaw)
        )
        keypoints = torch.cat([corners_cam(centers, dims, yaw), centers[..., None, :]], dim=-2)
        pixels = project(keypoints, batch.projection.flatten(0, 1)[:, None, None])
        points_px = self.grid(batch.images).centers_px
        inside = is_in_image(pixels, image_size) & targets.valid[..., None]
        inside = inside & (keypoints[..., 2] > MIN_DEPTH_M)
        cells = self._nearest_cells(pixels, image_size)
        index = cells[..., 1] * size[1] + cells[..., 0]
        top_left, bottom_right = self._corners_2d(batch)
        radius = bump_radius(bottom_right - top_left)[..., None].expand(index.shape)
        channels = torch.arange(NUM_KEYPOINTS, device=index.device).expand(index.shape)
        heatmap = draw_bumps(
            cells.flatten(1, 2),
            radius.flatten(1),
            channels.flatten(1),
            inside.flatten(1),
            num_channels=NUM_KEYPOINTS,
            size=size,
        )
        return KeypointTargets(
            heatmap=heatmap,
            inside=inside,
            offsets=(pixels - points_px[targets.index][..., None, :]) / self._stride,
            index=index,
            rest=(pixels - points_px[index]) / self._stride,
        )

    def _corners_2d(self, batch: Batch) -> tuple[Float[Tensor, "n p 2"], Float[Tensor, "n p 2"]]:
        """Top left and bottom right corners of the positives' 2D boxes, in cells."""
        cells = batch.positives.box_px.flatten(0, 1) / self._stride
        return cells[..., :2], cells[..., 2:]

    def _nearest_cells(
        self, pixels: Float[Tensor, "*n 2"], image_size: tuple[int, int]
    ) -> Int64[Tensor, "*n 2"]:
        """Column and row of the grid's point next to each pixel."""
        rows, columns = level_size(image_size, self._stride)
        cells = ((pixels - self._stride // 2) / self._stride).round().long()
        column, row = cells.unbind(-1)
        return torch.stack([column.clamp(0, columns - 1), row.clamp(0, rows - 1)], dim=-1)


def _without_rest(positives: Positives) -> Positives:
    """Zeros where nothing is learnt."""
    valid = positives.valid
    return Positives(
        index=positives.index * valid,
        slot=positives.slot * valid,
        weight=positives.weight * valid,
        box_px=positives.box_px * valid[..., None],
        valid=valid,
    )


def _pulled_inside(
    centers_px: Float[Tensor, "*n 2"], boxes_px: Float[Tensor, "*n 4"], image_size: tuple[int, int]
) -> Float[Tensor, "*n 2"]:
    """Centres; those outside the image go toward the middle of their 2D box until they are in."""
    start = (boxes_px[..., :2] + boxes_px[..., 2:]) / 2
    way = centers_px - start
    last = centers_px.new_tensor([image_size[1] - 1, image_size[0] - 1])
    room = torch.where(way > 0, last - start, -start) / way
    share = torch.where(way == 0, 1.0, room).amin(-1, keepdim=True).clamp(0, 1)
    return start + share * way
