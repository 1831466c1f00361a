"""The dense detector's code: several points around its projected centre learn an object."""

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.heading import AxisHeading
from mono3d.codec.point_codec import PointCodec, PositionConfidence, points_of_size
from mono3d.codec.points import RADIUS_STRIDES, assign, level_ranges_px
from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.geometry.camera import project
from mono3d.structures import Boxes3D, Positives


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
        self._ranges_px = level_ranges_px(strides, first_limit_px)
        self._radius_strides = radius_strides

    def positives(
        self, boxes: Boxes3D, projection: Float[Tensor, "3 4"], image_size: tuple[int, int]
    ) -> Positives:
        """Positives of one image (height, width), the most central first; fields have shape [p].

        p is `max_positives`, or the number of points where that is smaller.
        """
        return self._central_points(boxes, projection, image_size, self._radius_strides)

    def read_points(
        self, boxes: Boxes3D, projection: Float[Tensor, "3 4"], image_size: tuple[int, int]
    ) -> Positives:
        """What evaluation has in place of positives, for `depth_at_centers`.

        Within FCOS3D's radius, whatever training learns from: else the radius would decide which
        objects count.
        """
        return self._central_points(boxes, projection, image_size, RADIUS_STRIDES)

    def _central_points(
        self,
        boxes: Boxes3D,
        projection: Float[Tensor, "3 4"],
        image_size: tuple[int, int],
        radius_strides: float,
    ) -> Positives:
        learnt = self.learnt(boxes)
        centers_px = project(boxes.centers[learnt], projection)
        corners = corners_cam(boxes.centers[learnt], boxes.dims_hwl[learnt], boxes.yaw[learnt])
        boxes_px, _ = hull_2d(corners, projection, image_size)
        grid = points_of_size(image_size, self.strides)
        found = assign(
            grid,
            self._ranges_px,
            centers_px=centers_px,
            boxes_px=boxes_px,
            radius_strides=radius_strides,
        )
        centerness = torch.where(found.positive, found.centerness, 0.0)
        weight, index = centerness.topk(min(self.max_positives, len(centerness)))
        valid = weight > 0
        if not len(learnt):
            none = torch.zeros_like(index)
            return Positives(
                index=none,
                slot=none,
                weight=weight,
                box_px=weight.new_zeros(len(index), 4),
                valid=valid,
            )
        found_slot = found.slot[index]
        return Positives(
            index=index * valid,
            slot=learnt[found_slot] * valid,
            weight=weight,
            box_px=boxes_px[found_slot] * valid[:, None],
            valid=valid,
        )
