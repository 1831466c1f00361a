"""What training would teach of a frame, drawn on its image before any training."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mono3d.evaluation.drawing import (
    LABEL_COLOR,
    PREDICTION_COLOR,
    draw_wireframes,
    name_boxes,
    show_image,
)
from mono3d.structures import Boxes3D, Frame

_DEPTH_COLORS, _WEIGHT_COLORS, _HEAT_COLORS = "turbo_r", "viridis", "inferno"
_OBJECT_COLORS = "tab10"
_DEPTH_LIMITS_M = (2.0, 80.0)
_WEIGHT_LIMITS = (0.2, 5.0)
_IMAGE_WIDTH_IN = 7.0


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """What one image teaches; p positives, none of them padding."""

    points_px: Float[Tensor, "p 2"]
    """Where on the image each positive is."""
    cell_px: Float[Tensor, " p"]
    """Side of its cell."""
    slot: Int64[Tensor, " p"]
    """Number of the object that it learns."""
    weight: Float[Tensor, " p"]
    """Its centerness, or 1."""
    box_px: Float[Tensor, "p 4"]
    """Its object in the image: left, top, right, bottom."""
    decoded: Boxes3D
    """The boxes that decoding makes of its targets."""
    mined: Float[Tensor, " p"]
    """Its weight in the depth loss: the mean over a step is one."""
    heat: Float[Tensor, "hf wf"] | None
    """Heat map, highest of all classes, for a detector that learns one."""
    depth_m: Float[Tensor, "h w"] | None
    """LiDAR depth at the pixels, 0 where there is none."""


def teaching_figure(
    frame: Frame, teaching: Teaching, class_names: Sequence[str], mined_by: str
) -> Figure:
    """Four panels: labels, positives with their targets, mining weights, LiDAR depth.

    Args:
        frame: Of one camera, as the network gets it.
        teaching: Of that frame.
        class_names: The run's classes.
        mined_by: Whose depths the mining weights are about.
    """
    height, width = frame.images.shape[-2:]
    panel_in = _IMAGE_WIDTH_IN * height / width + 0.35
    figure = Figure(figsize=(2 * _IMAGE_WIDTH_IN, 2 * panel_in), layout="constrained")
    labels, positives, mining, depth = figure.subplots(2, 2).ravel()
    _draw_labels(labels, frame, class_names)
    _draw_positives(positives, frame, teaching)
    show_image(mining, frame.images[0], f"weight in the depth loss, by {mined_by}")
    if count := len(teaching.mined):
        dots = {"size": float(min(max(1500 / count, 10), 60)), "edge": 0.5}
        _scatter(mining, teaching.points_px, teaching.mined, _WEIGHT_COLORS, _WEIGHT_LIMITS, **dots)
    show_image(
        depth, frame.images[0], "LiDAR depth (m)" if frame.points is not None else "no LiDAR"
    )
    if teaching.depth_m is not None:
        rows, columns = teaching.depth_m.nonzero(as_tuple=True)
        pixels = torch.stack([columns, rows], dim=-1) + 0.5
        values = teaching.depth_m[rows, columns]
        _scatter(depth, pixels, values, _DEPTH_COLORS, _DEPTH_LIMITS_M, size=1.5)
    return figure


def _draw_labels(axes: Axes, frame: Frame, class_names: Sequence[str]) -> None:
    boxes = None if frame.boxes_cam is None else frame.boxes_cam[0]
    size = (frame.images.shape[-2], frame.images.shape[-1])
    if boxes is None:
        show_image(axes, frame.images[0], f"{frame.frame_id}: not labelled")
        return
    show_image(axes, frame.images[0], f"{frame.frame_id}: {len(boxes)} labelled objects")
    draw_wireframes(axes, boxes, frame.projection[0], size, LABEL_COLOR)
    depths = boxes.centers[:, 2].tolist()
    words = [
        f"{class_names[label].replace('_', ' ')} {depth:.0f} m"
        for label, depth in zip(boxes.labels.tolist(), depths, strict=True)
    ]
    nearest = boxes.centers[:, 2].argsort()
    words = [words[i] for i in nearest.tolist()]
    name_boxes(axes, boxes.select(nearest), words, frame.projection[0], size)


def _draw_positives(axes: Axes, frame: Frame, teaching: Teaching) -> None:
    size = (frame.images.shape[-2], frame.images.shape[-1])
    objects = len(teaching.slot.unique())
    title = f"{len(teaching.slot)} positives of {objects} objects; boxes decoded from their targets"
    show_image(axes, frame.images[0], title)
    if teaching.heat is not None:
        heat = teaching.heat.numpy()
        axes.imshow(heat, extent=(0, size[1], size[0], 0), cmap=_HEAT_COLORS, alpha=0.8 * heat**0.5)
    draw_wireframes(axes, teaching.decoded, frame.projection[0], size, PREDICTION_COLOR)
    if not objects:
        return
    corners, sides = teaching.points_px, teaching.cell_px
    cells = [
        Rectangle((u - side / 2, v - side / 2), side, side)
        for (u, v), side in zip(corners.tolist(), sides.tolist(), strict=True)
    ]
    frames = [
        Rectangle((left, top), right - left, bottom - top)
        for left, top, right, bottom in teaching.box_px.unique(dim=0).tolist()
    ]
    axes.add_collection(
        PatchCollection(frames, facecolors="none", edgecolors="white", linewidths=0.6, alpha=0.7),
        autolim=False,
    )
    colored = PatchCollection(cells, cmap=_OBJECT_COLORS, linewidths=0)
    colored.set_array(teaching.slot.numpy() % 10)
    colored.set_clim(0, 9)
    colored.set_alpha(teaching.weight.clamp(0.15, 0.9).tolist())
    axes.add_collection(colored, autolim=False)


def _scatter(
    axes: Axes,
    pixels: Tensor,
    values: Tensor,
    colors: str,
    limits: tuple[float, float],
    *,
    size: float,
    edge: float = 0.0,
) -> None:
    """Coloured dots on a logarithmic scale, with its bar."""
    dots = axes.scatter(
        pixels[:, 0].numpy(), pixels[:, 1].numpy(), c=values.clamp(*limits).numpy(), cmap=colors,
        norm=LogNorm(*limits), s=size, edgecolors="white", linewidths=edge, rasterized=True,
    )  # fmt: skip
    bar = axes.figure.colorbar(dots, ax=axes, fraction=0.02, pad=0.01)
    low, high = limits
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 40, 80) if low <= tick <= high]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7)
