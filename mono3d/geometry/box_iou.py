"""Exact overlap of upright boxes on the ground plane and in space, and the suppression it allows.

A footprint is (x, y, length, width, yaw) on any ground plane, yaw counter-clockwise from x to y.

Two rectangles overlap in a convex polygon, but its corners are never found. In the frame of the
second, where it is |x| <= a, |y| <= b, the area is Green's integral of clamp(y) d clamp(x) around
the first: clamping moves the outside of the second rectangle onto its border and leaves the inside
alone, so the clamped boundary encloses exactly the overlap. Each side gives a trapezoid rule on at
most three pieces; nothing is sorted, nothing depends on a tolerance, shared sides are no exception.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_TINY = 1e-30
_PARALLEL = 1e-12
_CORNER_SIGNS = ((1, 1), (-1, 1), (-1, -1), (1, -1))
_NORMALS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Of front, left, rear and right."""


def footprints_bev(
    centers: Float[Tensor, "n 3"], dims_hwl: Float[Tensor, "n 3"], yaw: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "n 5"], Float[Tensor, "n 2"]]:
    """Footprints of bev-frame boxes, and their lowest and highest z in metres."""
    footprints = torch.cat([centers[:, :2], dims_hwl[:, [2, 1]], yaw[:, None]], dim=1)
    return footprints, _spans(centers[:, 2], dims_hwl[:, 0])


def footprints_cam(
    centers: Float[Tensor, "n 3"], dims_hwl: Float[Tensor, "n 3"], yaw: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "n 5"], Float[Tensor, "n 2"]]:
    """Footprints of camera-frame boxes on the (x, z) plane, and lowest and highest -y in metres."""
    footprints = torch.cat([centers[:, [0, 2]], dims_hwl[:, [2, 1]], -yaw[:, None]], dim=1)
    return footprints, _spans(-centers[:, 1], dims_hwl[:, 0])


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
    united = footprints_a[..., 2:4].prod(-1) + footprints_b[..., 2:4].prod(-1) - shared
    return torch.where(shared > 0, shared / united.clamp(min=_TINY), 0.0)


def pairwise_bev_iou(
    footprints_a: Float[Tensor, "n 5"], footprints_b: Float[Tensor, "m 5"]
) -> Float[Tensor, "n m"]:
    """Intersection over union of every footprint of a with every footprint of b.

    Computed in float64, whatever the inputs are; boxes without area overlap with nothing.
    """
    overlap = _pairwise_overlap(footprints_a.double(), footprints_b.double())
    area_a = footprints_a[:, 2:4].double().prod(1)
    area_b = footprints_b[:, 2:4].double().prod(1)
    return _over_union(overlap, area_a, area_b).to(footprints_a.dtype)


def pairwise_iou_3d(
    footprints_a: Float[Tensor, "n 5"],
    spans_a: Float[Tensor, "n 2"],
    footprints_b: Float[Tensor, "m 5"],
    spans_b: Float[Tensor, "m 2"],
) -> Float[Tensor, "n m"]:
    """Intersection over union in space of every upright box of a with every upright box of b.

    Args:
        footprints_a: From `footprints_bev` or `footprints_cam`, as are the others.
        spans_a: Lowest and highest coordinate upwards, metres.
        footprints_b: On the same ground plane.
        spans_b: Along the same axis.
    """
    low = torch.maximum(spans_a[:, None, 0], spans_b[None, :, 0]).double()
    high = torch.minimum(spans_a[:, None, 1], spans_b[None, :, 1]).double()
    overlap = _pairwise_overlap(footprints_a.double(), footprints_b.double())
    volume_a = footprints_a[:, 2:4].double().prod(1) * spans_a.double().diff(dim=1)[:, 0]
    volume_b = footprints_b[:, 2:4].double().prod(1) * spans_b.double().diff(dim=1)[:, 0]
    shared = overlap * (high - low).clamp(min=0)
    return _over_union(shared, volume_a, volume_b).to(footprints_a.dtype)


def rotated_nms(
    footprints: Float[Tensor, "n 5"],
    scores: Float[Tensor, " n"],
    labels: Int64[Tensor, " n"],
    max_iou: float,
) -> Int64[Tensor, " kept"]:
    """Greedy non-maximum suppression on the ground plane, within each class.

    A box goes when a better box of its class that stays overlaps it by more than max_iou; of equal
    scores the earlier box is the better one.

    Returns:
        Indices of the boxes that stay, best score first.
    """
    order = scores.argsort(descending=True, stable=True)
    ordered = footprints[order].double()
    better, worse = _close_pairs(ordered, ordered)
    is_rival = (better < worse) & (labels[order][better] == labels[order][worse])
    better, worse = better[is_rival], worse[is_rival]
    overlap = overlap_area(ordered[better], ordered[worse])
    area = ordered[:, 2:4].prod(1)
    is_suppressing = overlap > max_iou * (area[better] + area[worse] - overlap)
    return order[_greedily_kept(better[is_suppressing], worse[is_suppressing], len(order))]


def _greedily_kept(
    better: Int64[Tensor, " pairs"], worse: Int64[Tensor, " pairs"], count: int
) -> Bool[Tensor, " n"]:
    """Which boxes stay, given the pairs in which the first suppresses the second if it stays.

    Repeating "a box stays unless a better one that stays suppresses it" settles box after box from
    the best down, so the fixed point is the sequential answer, found in a few rounds.
    """
    kept = torch.ones(count, dtype=torch.bool, device=better.device)
    while True:
        settled = torch.ones_like(kept)
        settled[worse[kept[better]]] = False
        if torch.equal(settled, kept):
            return kept
        kept = settled


def _pairwise_overlap(
    footprints_a: Float[Tensor, "n 5"], footprints_b: Float[Tensor, "m 5"]
) -> Float[Tensor, "n m"]:
    """Shared area of every pair; only pairs close enough to touch are worked out."""
    index_a, index_b = _close_pairs(footprints_a, footprints_b)
    overlap = footprints_a.new_zeros(len(footprints_a), len(footprints_b))
    overlap[index_a, index_b] = overlap_area(footprints_a[index_a], footprints_b[index_b])
    return overlap


def _close_pairs(
    footprints_a: Float[Tensor, "n 5"], footprints_b: Float[Tensor, "m 5"]
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Indices of the pairs whose circumscribed circles meet."""
    radius_a, radius_b = footprints_a[:, 2:4].norm(dim=1) / 2, footprints_b[:, 2:4].norm(dim=1) / 2
    offset = footprints_a[:, None, :2] - footprints_b[None, :, :2]
    is_close = offset.norm(dim=-1) < radius_a[:, None] + radius_b[None]
    index_a, index_b = is_close.nonzero(as_tuple=True)
    return index_a, index_b


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


def _over_union(
    shared: Float[Tensor, "n m"], size_a: Float[Tensor, " n"], size_b: Float[Tensor, " m"]
) -> Float[Tensor, "n m"]:
    """Shared size over united size, 0 where nothing is shared."""
    united = size_a[:, None] + size_b[None] - shared
    return torch.where(shared > 0, shared / united, 0.0)


def _spans(center: Float[Tensor, " n"], height: Float[Tensor, " n"]) -> Float[Tensor, "n 2"]:
    """Lowest and highest coordinate."""
    return torch.stack([center - height / 2, center + height / 2], dim=1)
