"""Rotated overlap: hand-worked values, shapely's answer, and sequential suppression."""

import math

import pytest
import shapely
import torch
from torch import Tensor

from mono3d.geometry.box_iou import (
    footprints_bev,
    footprints_cam,
    overlap_area,
    paired_bev_iou,
    pairwise_bev_iou,
    pairwise_iou_3d,
    rotated_nms,
)
from mono3d.geometry.boxes import corners_bev, corners_cam

DTYPE = torch.float64


def _footprints(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=DTYPE)


def _random_footprints(count: int, seed: int, spread: float = 6.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(count, 2, generator=generator, dtype=DTYPE) * spread
    size = torch.rand(count, 2, generator=generator, dtype=DTYPE) * 5 + 0.1
    yaw = torch.rand(count, 1, generator=generator, dtype=DTYPE) * 20 - 10
    return torch.cat([place, size, yaw], dim=1)


def _polygons(footprints: Tensor) -> list[shapely.Polygon]:
    polygons = []
    for x, y, length, width, yaw in footprints.tolist():
        box = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
        turned = shapely.affinity.rotate(box, yaw, origin=(0, 0), use_radians=True)
        polygons.append(shapely.affinity.translate(turned, x, y))
    return polygons


def _sequential_nms(
    footprints: Tensor, scores: Tensor, labels: Tensor, max_iou: float
) -> list[int]:
    iou = pairwise_bev_iou(footprints, footprints)
    kept: list[int] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        rivals = [other for other in kept if labels[other] == labels[index]]
        if all(iou[other, index] <= max_iou for other in rivals):
            kept.append(index)
    return kept


@pytest.mark.parametrize(
    ("a", "b", "area"),
    [
        ((0, 0, 4, 2, 0), (0, 0, 4, 2, 0), 8.0),
        ((0, 0, 4, 2, 0), (0, 0, 4, 2, math.pi), 8.0),
        ((0, 0, 4, 2, 0), (0, 0, 4, 2, math.pi / 2), 4.0),
        ((0, 0, 4, 2, 0), (1, 1, 4, 2, 0), 3.0),
        ((0, 0, 4, 2, 0), (4, 0, 4, 2, 0), 0.0),
        ((0, 0, 4, 2, 0), (9, 0, 4, 2, 0.3), 0.0),
        # A unit square, and the same turned by 45 degrees: a regular octagon, 2 (sqrt 2 - 1).
        ((0, 0, 1, 1, 0), (0, 0, 1, 1, math.pi / 4), 2 * (math.sqrt(2) - 1)),
        # The small one lies inside the large one.
        ((5, 5, 10, 10, 0.7), (5.5, 4.5, 1, 2, 0.1), 2.0),
    ],
)
def test_overlap_by_hand(a: tuple[float, ...], b: tuple[float, ...], area: float) -> None:
    expected = torch.tensor([area], dtype=DTYPE)
    torch.testing.assert_close(overlap_area(_footprints(a), _footprints(b)), expected)
    torch.testing.assert_close(overlap_area(_footprints(b), _footprints(a)), expected)


def test_iou_by_hand() -> None:
    iou = pairwise_bev_iou(
        _footprints((0, 0, 4, 2, 0)), _footprints((1, 1, 4, 2, 0), (9, 9, 1, 1, 0))
    )
    torch.testing.assert_close(iou, torch.tensor([[3 / 13, 0.0]], dtype=DTYPE))


def test_iou_equals_shapely_on_random_pairs() -> None:
    a, b = _random_footprints(40, seed=1), _random_footprints(50, seed=2)
    polygons_a, polygons_b = _polygons(a), _polygons(b)
    expected = torch.tensor(
        [[p.intersection(q).area / p.union(q).area for q in polygons_b] for p in polygons_a],
        dtype=DTYPE,
    )
    assert (expected > 0).sum() > 1000
    torch.testing.assert_close(pairwise_bev_iou(a, b), expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(paired_bev_iou(a, b[:40]), expected.diagonal(), atol=1e-9, rtol=0)


def test_almost_equal_boxes_overlap_almost_wholly() -> None:
    # Where corners are searched for, sides that nearly coincide are the dangerous case.
    box = _random_footprints(1, seed=4).expand(200, 5)
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(200, 5, generator=generator, dtype=DTYPE)
    scale = torch.logspace(-16, -8, 200, dtype=DTYPE)[:, None]
    iou = pairwise_bev_iou(box[:1], box + noise * scale)
    torch.testing.assert_close(iou, torch.ones_like(iou), atol=1e-6, rtol=0)


def test_iou_does_not_depend_on_where_the_world_begins() -> None:
    a, b = _random_footprints(20, seed=6), _random_footprints(20, seed=7)
    shift = torch.tensor([0.0, 0, 0, 0, 1.1], dtype=DTYPE)
    cos, sin = math.cos(1.1), math.sin(1.1)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=DTYPE)
    moved = [torch.cat([f[:, :2] @ turn + 600, f[:, 2:]], dim=1) + shift for f in (a, b)]
    torch.testing.assert_close(pairwise_bev_iou(*moved), pairwise_bev_iou(a, b))


def test_float32_boxes_far_from_the_origin_keep_their_overlap() -> None:
    far = torch.tensor([[1000.0, 2000.0, 4.0, 2.0, 0.3]])
    torch.testing.assert_close(pairwise_bev_iou(far, far), torch.ones(1, 1))


def test_boxes_without_area_overlap_with_nothing() -> None:
    flat = _footprints((0, 0, 0, 2, 0.3), (0, 0, 0, 0, 0))
    assert pairwise_bev_iou(flat, flat).eq(0).all()


def test_no_boxes_give_an_empty_table_and_nothing_to_keep() -> None:
    nothing = torch.zeros(0, 5, dtype=DTYPE)
    assert pairwise_bev_iou(nothing, _random_footprints(3, seed=8)).shape == (0, 3)
    labels = torch.zeros(0, dtype=torch.int64)
    assert rotated_nms(nothing, torch.zeros(0, dtype=DTYPE), labels, 0.5).shape == (0,)


@pytest.mark.parametrize("in_camera", [True, False])
def test_footprints_are_the_ground_outline_of_the_corners(in_camera: bool) -> None:
    generator = torch.Generator().manual_seed(9)
    centers = torch.randn(10, 3, generator=generator, dtype=DTYPE) * 10
    dims_hwl = torch.rand(10, 3, generator=generator, dtype=DTYPE) * 4 + 0.5
    yaw = torch.rand(10, generator=generator, dtype=DTYPE) * 6 - 3
    if in_camera:
        corners = corners_cam(centers, dims_hwl, yaw)[..., [0, 2, 1]] * torch.tensor([1, 1, -1])
        footprints, spans = footprints_cam(centers, dims_hwl, yaw)
    else:
        corners = corners_bev(centers, dims_hwl, yaw)
        footprints, spans = footprints_bev(centers, dims_hwl, yaw)
    for outline, polygon in zip(corners[:, :4, :2].tolist(), _polygons(footprints), strict=True):
        assert shapely.Polygon(outline).symmetric_difference(polygon).area < 1e-9
    torch.testing.assert_close(spans[:, 0], corners[..., 2].amin(1))
    torch.testing.assert_close(spans[:, 1], corners[..., 2].amax(1))


def test_iou_in_space_by_hand() -> None:
    # Half of the height, half of the length: a quarter of one box is shared, 1/4 / (2 - 1/4).
    footprints = _footprints((0, 0, 4, 2, 0.4))
    shifted = footprints + _footprints((2 * math.cos(0.4), 2 * math.sin(0.4), 0, 0, 0))
    spans = torch.tensor([[0.0, 2.0]], dtype=DTYPE)
    iou = pairwise_iou_3d(footprints, spans, shifted, spans + 1)
    torch.testing.assert_close(iou, torch.tensor([[1 / 7]], dtype=DTYPE))
    above = pairwise_iou_3d(footprints, spans, footprints, spans + 2)
    assert above.eq(0).all()


def test_nms_keeps_the_best_and_spares_what_only_a_lost_box_overlaps() -> None:
    # b overlaps a by 1/3 and c overlaps b by 1/3, but a and c do not meet: b goes, c stays.
    chain = _footprints((0, 0, 2, 2, 0), (1, 0, 2, 2, 0), (2, 0, 2, 2, 0))
    scores = torch.tensor([0.7, 0.6, 0.5], dtype=DTYPE)
    labels = torch.zeros(3, dtype=torch.int64)
    assert rotated_nms(chain, scores, labels, 0.3).tolist() == [0, 2]
    assert rotated_nms(chain, scores, labels, 0.4).tolist() == [0, 1, 2]
    assert rotated_nms(chain, scores, torch.tensor([0, 1, 1]), 0.3).tolist() == [0, 1]
    assert rotated_nms(chain, scores.flip(0), labels, 0.3).tolist() == [2, 0]


@pytest.mark.parametrize("max_iou", [0.0, 0.05, 0.5, 0.8])
def test_nms_equals_sequential_suppression(max_iou: float) -> None:
    generator = torch.Generator().manual_seed(11)
    objects = _random_footprints(30, seed=10, spread=25.0).repeat(5, 1)
    footprints = objects + 0.1 * torch.randn(150, 5, generator=generator, dtype=DTYPE)
    footprints[:, 2:4] = footprints[:, 2:4].abs()
    # A few distinct scores only, so that ties are met.
    scores = torch.randint(0, 40, (150,), generator=generator).double() / 40
    labels = torch.randint(0, 3, (150,), generator=generator)
    kept = rotated_nms(footprints, scores, labels, max_iou)
    assert kept.tolist() == _sequential_nms(footprints, scores, labels, max_iou)
    assert 3 < len(kept) < 150


def _random_pairs(count: int) -> tuple[Tensor, Tensor]:
    return _random_footprints(count, 11).requires_grad_(), _random_footprints(
        count, 12
    ).requires_grad_()


def test_the_gradient_is_that_of_the_area() -> None:
    a, b = _random_pairs(300)
    assert (overlap_area(a, b) > 0.1).sum() > 100
    assert torch.autograd.gradcheck(overlap_area, (a, b))
    assert torch.autograd.gradcheck(paired_bev_iou, (a, b))


@pytest.mark.parametrize(
    ("inner", "slopes"),
    [
        # Wholly inside: only its own size counts.
        ((0.5, 0.1, 2, 1, 0.4), (0, 0, 1, 2, 0)),
        # Over the front: by 1 m in length and the whole width.
        ((2, 0, 2, 1, 0), (-1, 0, 0.5, 1, 0)),
        # Around the other: nothing but the other's size counts.
        ((0, 0, 9, 9, 0.3), (0, 0, 0, 0, 0)),
        ((9, 9, 2, 1, 0.3), (0, 0, 0, 0, 0)),
    ],
)
def test_slopes_by_hand(inner: tuple[float, ...], slopes: tuple[float, ...]) -> None:
    box = _footprints(inner).requires_grad_()
    (found,) = torch.autograd.grad(overlap_area(box, _footprints((0, 0, 4, 2, 0))).sum(), box)
    torch.testing.assert_close(found[0], torch.tensor(slopes, dtype=DTYPE))


DEGENERATE = [
    ((0, 0, 4, 2, 0.3), (0, 0, 4, 2, 0.3)),  # identical
    ((0, 0, 4, 2, 0.3), (0, 0, 4, 2, 0.3 + math.pi)),
    ((0, 0, 4, 2, 0), (4, 0, 4, 2, 0)),  # touching
    ((0, 0, 4, 2, 0), (4, 2, 4, 2, 0)),  # in a corner
    ((0, 0, 4, 2, 0), (0.5, 0, 3, 2, 0)),  # sides on each other
    ((0, 0, 4, 2, 0), (0, 0, 4, 2, math.pi / 2)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
    ((0, 0, 0, 2, 0), (0, 0, 4, 2, 0)),
    ((0, 0, 4, 2, 0), (1e6, 0, 4, 2, 0)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("a", "b"), DEGENERATE)
def test_gradients_are_finite_everywhere(
    a: tuple[float, ...], b: tuple[float, ...], dtype: torch.dtype
) -> None:
    boxes = [_footprints(row).to(dtype).requires_grad_() for row in (a, b)]
    for measure in (overlap_area, paired_bev_iou):
        for gradient in torch.autograd.grad(measure(*boxes).sum(), boxes):
            assert gradient.isfinite().all()


def test_a_box_has_no_gradient_at_its_own_copy() -> None:
    """The mean of both slopes of a peak: a regression that has arrived stays."""
    boxes = _random_footprints(50, 3).requires_grad_()
    (found,) = torch.autograd.grad(paired_bev_iou(boxes, boxes.detach().clone()).sum(), boxes)
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-12, rtol=0)


def test_any_leading_shape() -> None:
    a, b = (_random_footprints(24, seed) for seed in (11, 12))
    found = paired_bev_iou(a.view(2, 3, 4, 5), b.view(2, 3, 4, 5))
    torch.testing.assert_close(found, paired_bev_iou(a, b).view(2, 3, 4))
    assert paired_bev_iou(a[0], b[0]).shape == ()


def test_concentric_rectangles_follow_the_closed_form() -> None:
    """Two equal rectangles, one turned: a parallelogram beyond the angle 2 atan(w / l)."""
    length, width = 3.9, 1.6
    turned = torch.linspace(1, 89, 89, dtype=DTYPE).deg2rad().requires_grad_()
    row = _footprints((0, 0, length, width, 0)).expand(89, 5)
    boxes = torch.cat([row[:, :4], turned[:, None]], dim=1)
    near = length * width - (turned / 2).tan() * (
        length**2 + width**2 - 2 * length * width * turned.sin()
    ) / (2 * turned.cos())
    wanted = torch.where(turned <= 2 * math.atan(width / length), near, width**2 / turned.sin())
    found = overlap_area(boxes, row)
    torch.testing.assert_close(found, wanted)
    slopes = [torch.autograd.grad(area.sum(), turned)[0] for area in (found, wanted)]
    torch.testing.assert_close(*slopes)
