"""Overlap of partners: hand-worked values, shapely's answer, and gradients."""

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
    paired_iou_3d,
)
from mono3d.geometry.boxes import corners_bev, corners_cam
from tests.support.footprints import DTYPE, footprints, polygons, random_footprints


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
    torch.testing.assert_close(overlap_area(footprints(a), footprints(b)), expected)
    torch.testing.assert_close(overlap_area(footprints(b), footprints(a)), expected)


@pytest.mark.parametrize("in_camera", [True, False])
def test_footprints_are_the_ground_outline_of_the_corners(in_camera: bool) -> None:
    generator = torch.Generator().manual_seed(9)
    centers = torch.randn(10, 3, generator=generator, dtype=DTYPE) * 10
    dims_hwl = torch.rand(10, 3, generator=generator, dtype=DTYPE) * 4 + 0.5
    yaw = torch.rand(10, generator=generator, dtype=DTYPE) * 6 - 3
    if in_camera:
        corners = corners_cam(centers, dims_hwl, yaw)[..., [0, 2, 1]] * torch.tensor([1, 1, -1])
        outlines, spans = footprints_cam(centers, dims_hwl, yaw)
    else:
        corners = corners_bev(centers, dims_hwl, yaw)
        outlines, spans = footprints_bev(centers, dims_hwl, yaw)
    for outline, polygon in zip(corners[:, :4, :2].tolist(), polygons(outlines), strict=True):
        assert shapely.Polygon(outline).symmetric_difference(polygon).area < 1e-9
    torch.testing.assert_close(spans[:, 0], corners[..., 2].amin(1))
    torch.testing.assert_close(spans[:, 1], corners[..., 2].amax(1))


def test_iou_equals_shapely_on_random_pairs() -> None:
    a, b = random_footprints(2000, seed=1), random_footprints(2000, seed=2)
    pairs = list(zip(polygons(a), polygons(b), strict=True))
    wanted = [p.intersection(q).area / p.union(q).area for p, q in pairs]
    found = paired_bev_iou(a, b)
    assert (found > 0).sum() > 1000
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=DTYPE), atol=1e-9, rtol=0)


def test_almost_equal_boxes_overlap_almost_wholly() -> None:
    # Where corners are searched for, sides that nearly coincide are the dangerous case.
    box = random_footprints(1, seed=4).expand(200, 5)
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(200, 5, generator=generator, dtype=DTYPE)
    scale = torch.logspace(-16, -8, 200, dtype=DTYPE)[:, None]
    iou = paired_bev_iou(box, box + noise * scale)
    torch.testing.assert_close(iou, torch.ones_like(iou), atol=1e-6, rtol=0)


def test_iou_does_not_depend_on_where_the_world_begins() -> None:
    a, b = random_footprints(20, seed=6), random_footprints(20, seed=7)
    shift = torch.tensor([0.0, 0, 0, 0, 1.1], dtype=DTYPE)
    cos, sin = math.cos(1.1), math.sin(1.1)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=DTYPE)
    moved = [torch.cat([f[:, :2] @ turn + 600, f[:, 2:]], dim=1) + shift for f in (a, b)]
    torch.testing.assert_close(paired_bev_iou(*moved), paired_bev_iou(a, b))


def test_float32_boxes_far_from_the_origin_keep_their_overlap() -> None:
    far = torch.tensor([[1000.0, 2000.0, 4.0, 2.0, 0.3]])
    torch.testing.assert_close(paired_bev_iou(far, far), torch.ones(1))


def test_iou_in_space_by_hand() -> None:
    # Half of the height, half of the length: a quarter of one box is shared, 4 of 28 cubic metres.
    box = footprints((0, 0, 4, 2, 0.4))
    shifted = box + footprints((2 * math.cos(0.4), 2 * math.sin(0.4), 0, 0, 0))
    spans = torch.tensor([[0.0, 2.0]], dtype=DTYPE)
    iou, united = paired_iou_3d(box, spans, shifted, spans + 1)
    torch.testing.assert_close(iou, torch.tensor([1 / 7], dtype=DTYPE))
    torch.testing.assert_close(united, torch.tensor([28.0], dtype=DTYPE))
    above, united = paired_iou_3d(box, spans, box, spans + 2)
    assert above.item() == 0
    assert united.item() == 32


def test_the_gradient_of_iou_in_space() -> None:
    def iou(*boxes: Tensor) -> Tensor:
        split = [part for box in boxes for part in (box[:, :5], box[:, 5:])]
        return paired_iou_3d(*split)[0]

    generator = torch.Generator().manual_seed(8)
    low = torch.rand(2, 60, 1, generator=generator, dtype=DTYPE)
    height = torch.rand(2, 60, 1, generator=generator, dtype=DTYPE) + 0.5
    boxes = [
        torch.cat([random_footprints(60, 20 + k, 3.0), low[k], low[k] + height[k]], 1)
        for k in range(2)
    ]
    for box in boxes:
        box.requires_grad_()
    assert (iou(*boxes) > 0.05).sum() > 20
    assert torch.autograd.gradcheck(iou, boxes)


def _random_pairs(count: int) -> tuple[Tensor, Tensor]:
    return random_footprints(count, 11).requires_grad_(), random_footprints(
        count, 12
    ).requires_grad_()


def test_the_gradient_is_that_of_the_area() -> None:
    a, b = _random_pairs(60)
    assert (overlap_area(a, b) > 0.1).sum() > 20
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
    box = footprints(inner).requires_grad_()
    (found,) = torch.autograd.grad(overlap_area(box, footprints((0, 0, 4, 2, 0))).sum(), box)
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
    boxes = [footprints(row).to(dtype).requires_grad_() for row in (a, b)]
    for measure in (overlap_area, paired_bev_iou):
        for gradient in torch.autograd.grad(measure(*boxes).sum(), boxes):
            assert gradient.isfinite().all()


def test_a_box_has_no_gradient_at_its_own_copy() -> None:
    """The mean of both slopes of a peak: a regression that has arrived stays."""
    boxes = random_footprints(50, 3).requires_grad_()
    (found,) = torch.autograd.grad(paired_bev_iou(boxes, boxes.detach().clone()).sum(), boxes)
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-12, rtol=0)


def test_any_leading_shape() -> None:
    a, b = (random_footprints(24, seed) for seed in (11, 12))
    found = paired_bev_iou(a.view(2, 3, 4, 5), b.view(2, 3, 4, 5))
    torch.testing.assert_close(found, paired_bev_iou(a, b).view(2, 3, 4))
    assert paired_bev_iou(a[0], b[0]).shape == ()


def test_concentric_rectangles_follow_the_closed_form() -> None:
    """Two equal rectangles, one turned: a parallelogram beyond the angle 2 atan(w / l)."""
    length, width = 3.9, 1.6
    turned = torch.linspace(1, 89, 89, dtype=DTYPE).deg2rad().requires_grad_()
    row = footprints((0, 0, length, width, 0)).expand(89, 5)
    boxes = torch.cat([row[:, :4], turned[:, None]], dim=1)
    near = length * width - (turned / 2).tan() * (
        length**2 + width**2 - 2 * length * width * turned.sin()
    ) / (2 * turned.cos())
    wanted = torch.where(turned <= 2 * math.atan(width / length), near, width**2 / turned.sin())
    found = overlap_area(boxes, row)
    torch.testing.assert_close(found, wanted)
    slopes = [torch.autograd.grad(area.sum(), turned)[0] for area in (found, wanted)]
    torch.testing.assert_close(*slopes)
