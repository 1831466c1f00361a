"""Exact, differentiable overlap of upright boxes and their partners, on the ground and in space.

`fast_iou` has many with many, for what needs no gradient.

A footprint is (x, y, length, width, yaw) on any ground plane, yaw counter-clockwise from x to y.

Two rectangles overlap in a convex polygon, but its corners are never found. In the frame of the
second, where it is |x| <= a, |y| <= b, the area is Green's integral of clamp(y) d clamp(x) around
the first: clamping moves the outside of the second rectangle onto its border and leaves the inside
alone, so the clamped boundary encloses exactly the overlap. Each side gives a trapezoid rule on at
most three pieces; nothing is sorted, nothing depends on a tolerance, shared sides are no exception.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-30
_PARALLEL = 1e-12
_CORNER_SIGNS = ((1, 1), (-1, 1), (-1, -1), (1, -1))
_NORMALS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Of front, left, rear and right."""


def footprints_bev(
    centers: Float[Tensor, "*n 3"], dims_hwl: Float[Tensor, "*n 3"], yaw: Float[Tensor, "*n"]
) -> tuple[Float[Tensor, "*n 5"], Float[Tensor, "*n 2"]]:
    """Footprints of bev-frame boxes, and their lowest and highest z in metres."""
    footprints = torch.cat([centers[..., :2], dims_hwl[..., [2, 1]], yaw[..., None]], dim=-1)
    return footprints, _spans(centers[..., 2], dims_hwl[..., 0])


def footprints_cam(
    centers: Float[Tensor, "*n 3"], dims_hwl: Float[Tensor, "*n 3"], yaw: Float[Tensor, "*n"]
) -> tuple[Float[Tensor, "*n 5"], Float[Tensor, "*n 2"]]:
    """Footprints of camera-frame boxes on the (x, z) plane, and lowest and highest -y in metres."""
    footprints = torch.cat([centers[..., [0, 2]], dims_hwl[..., [2, 1]], -yaw[..., None]], dim=-1)
    return footprints, _spans(-centers[..., 1], dims_hwl[..., 0])


def overlap_area(
    footprints_a: Float[Tensor, "*n 5"], footprints_b: Float[Tensor, "*n 5"]
) -> Float[Tensor, "*n"]:
    """Area shared by each footprint and its partner, square metres; differentiable in both.

    The gradient is exact wherever there is one, and finite everywhere. Where two sides lie on each
    other the area has a kink: it takes the mean of both slopes, so that a box has no gradient at
    its own copy's IoU.
    """
    area: Float[Tensor, "*n"] = _OverlapArea.apply(footprints_a, footprints_b)
    return area


class _OverlapArea(torch.autograd.Function):
    """Green's integral forward; backward, by how far each side moves outwards inside the other."""

    @staticmethod
    def forward(ctx: Any, footprints_a: Tensor, footprints_b: Tensor) -> Tensor:
        ctx.save_for_backward(footprints_a, footprints_b)
        return _clamped_area(footprints_a, footprints_b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        footprints_a, footprints_b = ctx.saved_tensors
        gradient = gradients[0][..., None]
        wants_a, wants_b = ctx.needs_input_grad
        return (
            gradient * _area_slopes(footprints_a, footprints_b) if wants_a else None,
            gradient * _area_slopes(footprints_b, footprints_a) if wants_b else None,
        )


def _clamped_area(
    footprints_a: Float[Tensor, "*n 5"], footprints_b: Float[Tensor, "*n 5"]
) -> Float[Tensor, "*n"]:
    corners = _corners_in_frame_of(footprints_a, footprints_b)
    half_length, half_width = (footprints_b[..., 2:4, None] / 2).unbind(-2)
    start, step = corners, corners.roll(-1, dims=-2) - corners
    # The share of each side that passes between the front and the rear of the second rectangle.
    first, last = _crossings(start[..., 0], step[..., 0], half_length)
    enters, leaves = _crossings(start[..., 1], step[..., 1], half_width)
    pieces = [first, enters.clamp(first, last), leaves.clamp(first, last), last]
    shares = torch.stack(pieces, dim=-1)
    limit = half_width[..., None]
    heights = (start[..., 1:] + step[..., 1:] * shares).clamp(-limit, limit)
    trapezoids = (heights[..., 1:] + heights[..., :-1]) / 2 * shares.diff(dim=-1)
    return -(trapezoids.sum(-1) * step[..., 0]).sum(-1).clamp(max=0)


def _area_slopes(
    footprints_a: Float[Tensor, "*n 5"], footprints_b: Float[Tensor, "*n 5"]
) -> Float[Tensor, "*n 5"]:
    """Derivative of the shared area by x, y, length, width and yaw of a.

    When a side of a moves, the area gains what the part of it inside b sweeps. A side at distance h
    from the centre, along which s runs, sweeps outwards at 1 / 2 if its size grows, at the cosine
    to its normal if a moves, and at -s if a turns.
    """
    half = footprints_a[..., [2, 3, 2, 3]] / 2  # of front, left, rear, right: from the centre
    reach = footprints_a[..., [3, 2, 3, 2]] / 2  # and along the side
    normals = footprints_a.new_tensor(_NORMALS)
    turned = (footprints_a[..., 4] - footprints_b[..., 4])[..., None]
    outwards, along = _rotated(normals, turned), _rotated(normals.roll(-1, dims=0), turned)
    offset = _rotated(
        (footprints_a[..., :2] - footprints_b[..., :2])[..., None, :], -footprints_b[..., 4, None]
    )
    middle = offset + half[..., None] * outwards
    limit = footprints_b[..., None, 2:4] / 2
    is_parallel = along.abs() < _PARALLEL
    safe = torch.where(is_parallel, 1.0, along)
    one_end, other_end = (-limit - middle) / safe, (limit - middle) / safe
    first = torch.where(is_parallel, -torch.inf, torch.minimum(one_end, other_end)).amax(-1)
    last = torch.where(is_parallel, torch.inf, torch.maximum(one_end, other_end)).amin(-1)
    first, last = torch.maximum(first, -reach), torch.minimum(last, reach)
    # A parallel side is inside, outside, or by half where it lies on the border.
    inside = ((middle.abs() < limit).to(half.dtype) + (middle.abs() <= limit)) / 2
    weight = torch.where(is_parallel, inside, 1.0).prod(-1) * (last > first)
    length = torch.where(last > first, last - first, 0.0) * weight
    turning = torch.where(last > first, (first**2 - last**2) / 2, 0.0) * weight
    moving = (length[..., None] * _rotated(normals, footprints_a[..., 4, None])).sum(-2)
    growing = (length[..., :2] + length[..., 2:]) / 2
    return torch.cat([moving, growing, turning.sum(-1, keepdim=True)], dim=-1)


def paired_bev_iou(
    footprints_a: Float[Tensor, "*n 5"], footprints_b: Float[Tensor, "*n 5"]
) -> Float[Tensor, "*n"]:
    """Intersection over union of each footprint and its partner; 0 where nothing is shared."""
    shared = overlap_area(footprints_a, footprints_b)
    united = _area(footprints_a) + _area(footprints_b) - shared
    return torch.where(shared > 0, shared / united.clamp(min=_TINY), 0.0)


def paired_iou_3d(
    footprints_a: Float[Tensor, "*n 5"],
    spans_a: Float[Tensor, "*n 2"],
    footprints_b: Float[Tensor, "*n 5"],
    spans_b: Float[Tensor, "*n 2"],
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Intersection over union in space of each upright box and its partner, and the union.

    Args:
        footprints_a: From `footprints_bev` or `footprints_cam`, as are the others.
        spans_a: Lowest and highest coordinate upwards, metres.
        footprints_b: On the same ground plane.
        spans_b: Along the same axis.

    Returns:
        The ratio, 0 where nothing is shared, and the united volume in cubic metres.
    """
    low = torch.maximum(spans_a[..., 0], spans_b[..., 0])
    high = torch.minimum(spans_a[..., 1], spans_b[..., 1])
    shared = overlap_area(footprints_a, footprints_b) * (high - low).clamp(min=0)
    volume_a, volume_b = (
        _area(footprints) * (spans[..., 1] - spans[..., 0])
        for footprints, spans in ((footprints_a, spans_a), (footprints_b, spans_b))
    )
    united = volume_a + volume_b - shared
    return torch.where(shared > 0, shared / united.clamp(min=_TINY), 0.0), united


def _area(footprints: Float[Tensor, "*n 5"]) -> Float[Tensor, "*n"]:
    """Length times width; `Tensor.prod` would make the host wait in its backward pass."""
    return footprints[..., 2] * footprints[..., 3]


def _corners_in_frame_of(
    footprints_a: Float[Tensor, "*n 5"], footprints_b: Float[Tensor, "*n 5"]
) -> Float[Tensor, "*n 4 2"]:
    """Corners of a, counter-clockwise, where b is at the origin and along the axes."""
    signs = footprints_a.new_tensor(_CORNER_SIGNS) / 2
    turned = footprints_a[..., 4] - footprints_b[..., 4]
    local = _rotated(signs * footprints_a[..., None, 2:4], turned[..., None])
    offset = (footprints_a[..., :2] - footprints_b[..., :2])[..., None, :]
    return local + _rotated(offset, -footprints_b[..., 4, None])


def _rotated(
    vectors: Float[Tensor, "*_ k 2"], angle: Float[Tensor, "*n 1"]
) -> Float[Tensor, "*n k 2"]:
    """Vectors turned counter-clockwise."""
    cos, sin = angle.cos(), angle.sin()
    x, y = vectors.unbind(-1)
    return torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1)


def _crossings(
    start: Float[Tensor, "*n 4"], step: Float[Tensor, "*n 4"], limit: Float[Tensor, "*n 1"]
) -> tuple[Float[Tensor, "*n 4"], Float[Tensor, "*n 4"]]:
    """Shares of the way, in [0, 1], at which a coordinate enters and leaves [-limit, limit]."""
    safe_step = torch.where(step.abs() < _TINY, _TINY, step)
    one_side, other_side = (-limit - start) / safe_step, (limit - start) / safe_step
    return (
        torch.minimum(one_side, other_side).clamp(0, 1),
        torch.maximum(one_side, other_side).clamp(0, 1),
    )


def _spans(center: Float[Tensor, "*n"], height: Float[Tensor, "*n"]) -> Float[Tensor, "*n 2"]:
    """Lowest and highest coordinate."""
    return torch.stack([center - height / 2, center + height / 2], dim=-1)
