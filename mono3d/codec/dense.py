"""The dense detector's code: several points around its projected centre learn an object."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.heading import AxisHeading
from mono3d.codec.point_codec import PointCodec, PositionConfidence
from mono3d.codec.points import RADIUS_STRIDES, Assignment, PointAssigner, level_ranges_px
from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.geometry.camera import project
from mono3d.structures import Boxes3D, Positives

_assigner_of_size = lru_cache(maxsize=8)(PointAssigner)
"""The loader meets few sizes many times."""


class DenseCodec(PointCodec):
    """Encode and decode images of any size, for one set of strides and one class list."""

    def __init__(
        self,
        *,
        strides: tuple[int, ...],
        first_limit_px: float,
        depth: LogDepthCodec,
        mean_dims_hwl: Float[Tensor, "classes 3"],
        max_positives: int,
        radius_strides: float = RADIUS_STRIDES,
        min_points: int = 1,
        position: PositionConfidence | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            strides: Of the levels, finest first, pixels.
            first_limit_px: Largest side distance that the finest level answers for.
            depth: The depth code.
            mean_dims_hwl: Mean size of each class, metres.
            max_positives: Capacity of one image; the least central positives are left out.
            radius_strides: How far from a projected centre points learn the object.
            min_points: Objects known to hold fewer LiDAR points are not learnt.
            position: What scores say of a box's position; None leaves that out.
        """
        super().__init__(
            strides=strides,
            depth=depth,
            heading=AxisHeading(),
            mean_dims_hwl=mean_dims_hwl,
            min_points=min_points,
            position=position,
        )
        self.max_positives = max_positives
        self._ranges_px = tuple(level_ranges_px(strides, first_limit_px))
        self._radius_strides = radius_strides

    def positives(
        self, boxes: Boxes3D, projection: Float[Tensor, "*n 3 4"], image_size: tuple[int, int]
    ) -> Positives:
        """Positives of images (height, width), the most central first; fields have shape [*n p].

        p is `max_positives`, or the number of points where that is smaller.

        Args:
            boxes: Leading shape [*n k].
            projection: Of each image's camera.
            image_size: Of all images.
        """
        return self._central_points(boxes, projection, image_size, self._radius_strides)

    def read_points(
        self, boxes: Boxes3D, projection: Float[Tensor, "*n 3 4"], image_size: tuple[int, int]
    ) -> Positives:
        """What evaluation has in place of positives, for `depth_at_centers`.

        Within FCOS3D's radius, whatever training learns from: else the radius would decide which
        objects count.
        """
        return self._central_points(boxes, projection, image_size, RADIUS_STRIDES)

    def _central_points(
        self,
        boxes: Boxes3D,
        projection: Float[Tensor, "*n 3 4"],
        image_size: tuple[int, int],
        radius_strides: float,
    ) -> Positives:
        leading, slots = boxes.valid.shape[:-1], boxes.valid.shape[-1]
        learnt = self.is_learnt(boxes).flatten().nonzero()[:, 0]
        images, cameras = learnt // slots, projection.reshape(-1, 3, 4)
        centers = boxes.centers.reshape(-1, 3)[learnt]
        corners = corners_cam(
            centers, boxes.dims_hwl.reshape(-1, 3)[learnt], boxes.yaw.flatten()[learnt]
        )
        boxes_px, _ = hull_2d(corners, cameras[images], image_size)
        assign = _assigner_of_size(image_size, self.strides, self._ranges_px, radius_strides)
        found = assign(project(centers, cameras[images]), boxes_px, images)
        count = min(self.max_positives, assign.num_points)
        kept, place = _most_central(found, count)

        def padded(values: Tensor) -> Tensor:
            room = values.new_zeros(len(cameras) * count, *values.shape[1:])
            return room.index_copy_(0, place, values[kept]).view(*leading, count, *values.shape[1:])

        return Positives(
            index=padded(found.points),
            slot=padded((learnt % slots)[found.objects]),
            weight=padded(found.centerness),
            box_px=padded(boxes_px[found.objects]),
            valid=padded(torch.ones_like(found.points, dtype=torch.bool)),
        )


def _most_central(
    found: Assignment, count: int
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " kept"]]:
    """The `count` most central points of each image, and where they go in rows of that length."""
    order = np.lexsort((-found.centerness.numpy(), found.images.numpy()))
    images = found.images.numpy()[order]
    rank = np.arange(len(order)) - np.searchsorted(images, images)
    is_kept = rank < count
    place = images * count + rank
    return torch.from_numpy(order[is_kept]), torch.from_numpy(place[is_kept])
