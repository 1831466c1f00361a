"""Detections and labels of a frame, on its images and from above."""

from collections.abc import Sequence
from math import ceil

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from mono3d.evaluation.drawing import (
    LABEL_COLOR,
    PREDICTION_COLOR,
    box_corners,
    draw_ground,
    draw_outlines,
    draw_view,
    draw_wireframes,
    name_detections,
    say_empty,
    show_image,
)
from mono3d.evaluation.views import by_camera
from mono3d.geometry.boxes import corners_bev
from mono3d.geometry.camera import BEV_FROM_LEVEL_CAM, transform_points
from mono3d.structures import Detections, Frame

_COLUMNS = 3
_MIN_REACH_M, _MAX_REACH_M = 30.0, 60.0


def predictions_figure(frame: Frame, detections: Detections, class_names: Sequence[str]) -> Figure:
    """Detections and labels on the images of a frame, and beside them the same from above.

    Several cameras are arranged as they look, front row and rear row, and seen from above in the
    bev frame; a single camera is seen from above in its own frame, looking up.

    Args:
        frame: Of one camera or of several; labels are drawn where it has them.
        detections: In the camera's frame of a frame of one camera, in the bev frame of others.
        class_names: The run's classes.
    """
    figure, image_axes, ground_axes = _frame_layout(frame)
    image_size = (frame.images.shape[2], frame.images.shape[3])
    views = by_camera(detections, frame.projection, frame.bev_from_cam, image_size)
    for axes, index in zip(image_axes, _viewing_order(frame.bev_from_cam), strict=True):
        projection, found = frame.projection[index], views[index]
        show_image(axes, frame.images[index], frame.camera_names[index])
        if frame.boxes_cam is not None:
            draw_wireframes(axes, frame.boxes_cam[index], projection, image_size, LABEL_COLOR)
        draw_wireframes(axes, found.boxes, projection, image_size, PREDICTION_COLOR)
        name_detections(axes, found, projection, image_size, class_names)
    _draw_from_above(ground_axes, frame, detections)
    colors = {"prediction": PREDICTION_COLOR}
    colors |= {} if frame.boxes_cam is None else {"label": LABEL_COLOR}
    handles = [Line2D([], [], color=color, lw=2.5, label=name) for name, color in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def _viewing_order(bev_from_cam: Float[Tensor, "v 4 4"]) -> list[int]:
    """Cameras that look ahead, then those that look back, each from left to right."""
    ahead, left = bev_from_cam[:, 0, 2].tolist(), bev_from_cam[:, 1, 2].tolist()
    return sorted(range(len(ahead)), key=lambda camera: (ahead[camera] < 0, -left[camera]))


def _frame_layout(frame: Frame) -> tuple[Figure, list[Axes], Axes]:
    """Axes for each image, in rows of three, and a square panel to their right for the ground."""
    count = len(frame.images)
    columns, rows = min(count, _COLUMNS), ceil(count / _COLUMNS)
    image_width = 6.2 if count == 1 else 3.6
    image_height = image_width * frame.images.shape[2] / frame.images.shape[3]
    side = max(rows * (image_height + 0.2), 3.2)
    figure = Figure(figsize=(columns * image_width + side + 0.7, side + 0.75), layout="constrained")
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[image_width] * columns + [side])
    cells = [divmod(index, columns) for index in range(count)]
    return (
        figure,
        [figure.add_subplot(grid[cell]) for cell in cells],
        figure.add_subplot(grid[:, columns]),
    )


def _draw_from_above(axes: Axes, frame: Frame, detections: Detections) -> None:
    """Labels and detections of all cameras on the ground."""
    ground_from_cam, ground_from_bev = _ground_frame(frame.bev_from_cam)
    if len(frame.images) == 1:
        found = _in_ground([box_corners(detections.boxes)], ground_from_cam)
    else:
        boxes = detections.boxes
        found = corners_bev(boxes.centers, boxes.dims_hwl, boxes.yaw)
    labels = _in_ground([box_corners(boxes) for boxes in frame.boxes_cam or ()], ground_from_cam)
    reach_m = _reach_m(torch.cat([labels, found]))
    points = None
    if frame.points is not None:
        points = transform_points(frame.points[:, :3], ground_from_bev)
    draw_ground(axes, points, reach_m)
    for transform, projection in zip(ground_from_cam, frame.projection, strict=True):
        draw_view(axes, transform, (frame.images.shape[3] / 2 / projection[0, 0]).item())
    draw_outlines(axes, labels, LABEL_COLOR, width=1.8)
    draw_outlines(axes, found, PREDICTION_COLOR, width=1.0)
    rear_m = reach_m if len(frame.images) > 1 else 0.05 * reach_m
    half_m = (reach_m + rear_m) / 2
    axes.set(xlim=(half_m, -half_m), ylim=(-rear_m, reach_m), aspect="equal")
    axes.set_xlabel("left (m)", fontsize=9)
    axes.set_ylabel("ahead (m)", fontsize=9)
    axes.tick_params(labelsize=8)
    if not len(found):
        say_empty(axes)


def _ground_frame(
    bev_from_cam: Float[Tensor, "v 4 4"],
) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "4 4"]]:
    """The frame in which a frame's ground is drawn: from each camera, and from bev."""
    if len(bev_from_cam) > 1:
        return bev_from_cam, torch.eye(4, dtype=bev_from_cam.dtype, device=bev_from_cam.device)
    level_from_cam = bev_from_cam.new_tensor(BEV_FROM_LEVEL_CAM)
    return level_from_cam[None], level_from_cam @ torch.linalg.inv(bev_from_cam[0])


def _in_ground(
    corners: Sequence[Float[Tensor, "_ 8 3"]], ground_from_cam: Float[Tensor, "v 4 4"]
) -> Float[Tensor, "n 8 3"]:
    """Corners from each camera in one frame; of no cameras, none."""
    moved = [transform_points(one, way) for one, way in zip(corners, ground_from_cam, strict=False)]
    return torch.cat([ground_from_cam.new_zeros(0, 8, 3), *moved])


def _reach_m(corners: Float[Tensor, "n 8 3"]) -> float:
    """How far the view from above must reach to show the boxes, in tens of metres."""
    if not len(corners):
        return _MAX_REACH_M
    farthest_m = corners[..., :2].abs().max().item()
    return min(max(10.0 * ceil(farthest_m / 10), _MIN_REACH_M), _MAX_REACH_M)
