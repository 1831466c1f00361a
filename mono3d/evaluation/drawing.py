"""Boxes drawn on matplotlib axes: as wireframes in the image, as outlines from above.

Lines are vectors on the axes and not pixels in the image, so they stay sharp on small images.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import Circle, Polygon
from torch import Tensor

from mono3d.geometry.boxes import BOX_EDGES, FRONT_FACE, corners_cam, cut_at_camera_plane, hull_2d
from mono3d.geometry.camera import MIN_DEPTH_M, project
from mono3d.structures import Boxes3D, Detections

LABEL_COLOR = "#56B4E9"
PREDICTION_COLOR = "#E69F00"
_MAX_NAMED = 10
# Room that a name takes, in widths and heights of the image.
_NAME_WIDTH, _NAME_HEIGHT = 0.26, 0.07
_RING_STEP_M = 20
# A box as high as the image has lines this wide, in points; small boxes have thinner ones.
_WIDTH_OF_FULL_HEIGHT, _MIN_WIDTH, _MAX_WIDTH = 8.0, 0.6, 1.5


def box_corners(boxes: Boxes3D) -> Float[Tensor, "n 8 3"]:
    """Corners of the valid boxes of a camera-frame list."""
    corners: Tensor = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)[boxes.valid]
    return corners


def show_image(axes: Axes, image: UInt8[Tensor, "3 h w"], title: str) -> None:
    """The image, one unit a pixel, without ticks."""
    height, width = image.shape[1:]
    axes.imshow(image.permute(1, 2, 0).cpu().numpy(), extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_title(title, fontsize=8, pad=2)


def wireframe(
    boxes: Boxes3D, projection: Float[Tensor, "3 4"]
) -> tuple[Float[Tensor, "lines 2 2"], Int64[Tensor, " lines"], Float[Tensor, "faces 4 2"]]:
    """What of camera-frame boxes lies before the camera, in pixels.

    Returns:
        Both ends of each edge, number of its box, and the faces that look ahead.
    """
    corners = box_corners(boxes)
    edges, is_seen = cut_at_camera_plane(corners[:, torch.tensor(BOX_EDGES)])
    fronts = corners[:, FRONT_FACE]
    fronts = fronts[(fronts[..., 2] >= MIN_DEPTH_M).all(1)]
    lines = project(edges[is_seen], projection)
    return lines, is_seen.nonzero()[:, 0], project(fronts, projection)


def draw_wireframes(
    axes: Axes,
    boxes: Boxes3D,
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
    color: str,
) -> None:
    """Camera-frame boxes as wireframes in the image, the face that looks ahead tinted."""
    lines, owners, faces = wireframe(boxes, projection)
    hulls, _ = hull_2d(box_corners(boxes), projection, image_size)
    share = (hulls[:, 3] - hulls[:, 1]) / image_size[0]
    box_width = (share * _WIDTH_OF_FULL_HEIGHT).clamp(_MIN_WIDTH, _MAX_WIDTH)
    width = box_width[owners].cpu().numpy()
    # A dark line under each bright one: readable on sky and on asphalt.
    for layer, extra, alpha in (("black", 0.8, 0.45), (color, 0.0, 1.0)):
        collection = LineCollection(
            [*lines.cpu().numpy()], colors=layer, linewidths=width + extra, alpha=alpha
        )
        axes.add_collection(collection, autolim=False)
    tinted = PolyCollection([*faces.cpu().numpy()], facecolors=color, alpha=0.3)
    axes.add_collection(tinted, autolim=False)


def name_detections(
    axes: Axes,
    detections: Detections,
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
    class_names: Sequence[str],
) -> None:
    """Class and score above the best detections, as far as the words do not cover each other."""
    for name in detection_names(detections, projection, image_size, class_names):
        _name_box(axes, *name)


def name_boxes(
    axes: Axes,
    boxes: Boxes3D,
    words: Sequence[str],
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
) -> None:
    """Words above boxes of the camera frame, the first ones first, where there is room for them."""
    for name in _placed(boxes, words, projection, image_size):
        _name_box(axes, *name)


def detection_names(
    detections: Detections,
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
    class_names: Sequence[str],
) -> Iterator[tuple[str, float, float, bool]]:
    """Class and score of the best detections, as far as the words do not cover each other.

    Returns:
        The words, where they begin or end (u, v), and whether they end there.
    """
    labels, scores = detections.boxes.labels.tolist(), detections.scores.tolist()
    words = [
        f"{class_names[label].replace('_', ' ')} {score:.2f}"
        for label, score in zip(labels, scores, strict=True)
    ]
    return _placed(detections.boxes, words, projection, image_size)


def _placed(
    boxes: Boxes3D,
    words: Sequence[str],
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
) -> Iterator[tuple[str, float, float, bool]]:
    corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
    hulls, is_inside = hull_2d(corners, projection, image_size)
    height, width = image_size
    taken: list[tuple[float, float]] = []
    for index in is_inside.nonzero()[:, 0].tolist():
        left, top, right, _ = hulls[index].tolist()
        is_right_aligned = left >= 0.65 * width
        start = right - _NAME_WIDTH * width if is_right_aligned else left
        is_free = all(
            abs(start - x) > _NAME_WIDTH * width or abs(top - y) > _NAME_HEIGHT * height
            for x, y in taken
        )
        if is_free and len(taken) < _MAX_NAMED:
            taken.append((start, top))
            yield words[index], right if is_right_aligned else left, top, is_right_aligned


def _name_box(axes: Axes, text: str, u: float, v: float, is_right_aligned: bool) -> None:
    """White words on a dark plate that begin, or end, at a place."""
    plate = {"boxstyle": "round,pad=0.15", "facecolor": "black", "alpha": 0.55, "linewidth": 0}
    axes.annotate(
        text, (u, v), xytext=(0, 2), textcoords="offset points", va="bottom",
        ha="right" if is_right_aligned else "left", color="white", fontsize=6.5, bbox=plate,
        clip_on=True,
    )  # fmt: skip


def draw_outlines(axes: Axes, corners: Float[Tensor, "n 8 3"], color: str, width: float) -> None:
    """Boxes from above: outlines, and a stroke from each centre through its front.

    Args:
        axes: With y on the horizontal axis, pointing left, and x upwards.
        corners: x ahead, y to the left, in the order of `corners_cam`.
        color: Of outline and stroke.
        width: Line width in points.
    """
    ground = corners[:, :4, [1, 0]]
    outlines = ground[:, [0, 1, 2, 3, 0]].cpu().numpy()
    center, front = ground.mean(1), ground[:, :2].mean(1)
    headings = torch.stack([center, front + 0.3 * (front - center)], dim=1).cpu().numpy()
    for lines in (outlines, headings):
        collection = LineCollection([*lines], colors=color, linewidths=width, zorder=3)
        axes.add_collection(collection, autolim=False)


def draw_ground(axes: Axes, points: Float[Tensor, "n 3"] | None, reach_m: float) -> None:
    """What lies under the boxes: rings of equal distance, LiDAR points, and where we are."""
    for radius in range(_RING_STEP_M, int(1.5 * reach_m), _RING_STEP_M):
        axes.add_patch(Circle((0, 0), radius, fill=False, color="0.85", linewidth=0.8, zorder=0))
    if points is not None:
        x, y = points[:, :2].cpu().unbind(1)
        axes.scatter(y, x, s=0.3, color="0.7", linewidths=0, rasterized=True, zorder=1)
    size = 0.02 * reach_m
    arrow = [(size, -size), (0, 2 * size), (-size, -size), (0, -0.4 * size)]
    axes.add_patch(Polygon(arrow, color="black", zorder=2))


def draw_view(axes: Axes, ground_from_cam: Float[Tensor, "4 4"], half_angle_tan: float) -> None:
    """The two rays that bound what a camera sees, given the tangent of half its opening angle."""
    sides = ground_from_cam.new_tensor([[-half_angle_tan, 0, 1], [half_angle_tan, 0, 1]])
    origin = ground_from_cam[:3, 3]
    ends = origin + 100 * (sides @ ground_from_cam[:3, :3].T)
    rays = torch.stack([origin.expand_as(ends), ends], dim=1)[..., [1, 0]].cpu().numpy()
    lines = LineCollection([*rays], colors="0.75", linewidths=0.8, linestyles="--", zorder=0)
    axes.add_collection(lines, autolim=False)


def say_empty(axes: Axes) -> None:
    """Tell that this panel is empty because nothing was detected."""
    axes.text(
        0.5, 0.5, "no detections", transform=axes.transAxes, ha="center", va="center",
        fontsize=11, color="0.3", bbox={"facecolor": "white", "edgecolor": "0.7"},
    )  # fmt: skip
