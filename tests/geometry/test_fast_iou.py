"""Overlap of many with many: shapely, the differentiable one, and sequential suppression."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mono3d.geometry.box_iou import overlap_area, paired_bev_iou, paired_iou_3d
from mono3d.geometry.fast_iou import (
    pairwise_bev_iou,
    pairwise_iou_3d,
    pairwise_overlap_area,
    rotated_nms,
)
from tests.support.footprints import DTYPE, footprints, polygons, random_footprints


def _spans(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low, height = torch.rand(2, count, 1, generator=generator, dtype=DTYPE)
    return torch.cat([low, low + height + 0.1], 1)


def _sequential_nms(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, max_iou: float
) -> list[int]:
    iou = pairwise_bev_iou(boxes, boxes)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        rivals = [other for other in kept if labels[other] == labels[index]]
        if all(iou[other, index] <= max_iou for other in rivals):
            kept.append(index)
    return kept


def test_iou_by_hand() -> None:
    iou = pairwise_bev_iou(
        footprints((0, 0, 4, 2, 0)).numpy(),
        footprints(
            (1, 1, 4, 2, 0), (9, 9, 1, 1, 0), (0, 0, 4, 2, math.pi), (4, 0, 4, 2, 0)
        ).numpy(),
    )
    np.testing.assert_allclose(iou, [[3 / 13, 0, 1, 0]], atol=1e-12)


def test_iou_equals_shapely_on_random_pairs() -> None:
    a, b = random_footprints(40, seed=1), random_footprints(50, seed=2)
    expected = np.array(
        [[p.intersection(q).area / p.union(q).area for q in polygons(b)] for p in polygons(a)]
    )
    assert (expected > 0).sum() > 1000
    np.testing.assert_allclose(pairwise_bev_iou(a.numpy(), b.numpy()), expected, atol=1e-9)


def test_both_implementations_agree() -> None:
    a, b = random_footprints(60, seed=3), random_footprints(70, seed=4)
    a[:5] = b[:5]  # identical
    a[5:10] = b[5:10] + footprints((0, 0, 0, 0, math.pi / 2))
    a[10:15, :2], a[10:15, 4] = b[10:15, :2], b[10:15, 4]  # one in the other, or sides crossing
    a[15:20, 2] = 0
    pairs = (a[:, None].expand(60, 70, 5), b.expand(60, 70, 5))
    found = torch.from_numpy(pairwise_overlap_area(a.numpy(), b.numpy()))
    torch.testing.assert_close(found, overlap_area(*pairs), atol=1e-9, rtol=0)
    found = torch.from_numpy(pairwise_bev_iou(a.numpy(), b.numpy()))
    torch.testing.assert_close(found, paired_bev_iou(*pairs), atol=1e-9, rtol=0)
    spans_a, spans_b = _spans(60, 5), _spans(70, 6)
    spans = (spans_a[:, None].expand(60, 70, 2), spans_b.expand(60, 70, 2))
    arrays = (part.numpy() for part in (a, spans_a, b, spans_b))
    found = torch.from_numpy(pairwise_iou_3d(*arrays))
    wanted, _ = paired_iou_3d(pairs[0], spans[0], pairs[1], spans[1])
    assert (wanted > 0).sum() > 500
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


def test_almost_equal_boxes_overlap_almost_wholly() -> None:
    box = random_footprints(1, seed=4).numpy()
    noise = np.random.default_rng(5).normal(size=(200, 5)) * np.logspace(-16, -8, 200)[:, None]
    np.testing.assert_allclose(pairwise_bev_iou(box, box + noise), 1, atol=1e-6)


def test_boxes_without_area_overlap_with_nothing() -> None:
    flat = footprints((0, 0, 0, 2, 0.3), (0, 0, 0, 0, 0)).numpy()
    assert (pairwise_bev_iou(flat, flat) == 0).all()


def test_iou_in_space_by_hand() -> None:
    box = footprints((0, 0, 4, 2, 0.4)).numpy()
    shifted = box + np.array([2 * math.cos(0.4), 2 * math.sin(0.4), 0, 0, 0])
    spans = np.array([[0.0, 2.0]])
    np.testing.assert_allclose(pairwise_iou_3d(box, spans, shifted, spans + 1), [[1 / 7]])
    assert (pairwise_iou_3d(box, spans, box, spans + 2) == 0).all()


def test_no_boxes_give_an_empty_table_and_nothing_to_keep() -> None:
    nothing = np.zeros((0, 5))
    assert pairwise_bev_iou(nothing, random_footprints(3, seed=8).numpy()).shape == (0, 3)
    assert rotated_nms(nothing, np.zeros(0), np.zeros(0, dtype=np.int64), 0.5).shape == (0,)


def test_nms_keeps_the_best_and_spares_what_only_a_lost_box_overlaps() -> None:
    # b overlaps a by 1/3 and c overlaps b by 1/3, but a and c do not meet: b goes, c stays.
    chain = footprints((0, 0, 2, 2, 0), (1, 0, 2, 2, 0), (2, 0, 2, 2, 0)).numpy()
    scores = np.array([0.7, 0.6, 0.5])
    labels = np.zeros(3, dtype=np.int64)
    assert rotated_nms(chain, scores, labels, 0.3).tolist() == [0, 2]
    assert rotated_nms(chain, scores, labels, 0.4).tolist() == [0, 1, 2]
    assert rotated_nms(chain, scores, np.array([0, 1, 1]), 0.3).tolist() == [0, 1]
    assert rotated_nms(chain, scores[::-1], labels, 0.3).tolist() == [2, 0]


@pytest.mark.parametrize("max_iou", [0.0, 0.05, 0.5, 0.8])
def test_nms_equals_sequential_suppression(max_iou: float) -> None:
    rng = np.random.default_rng(11)
    objects = random_footprints(30, seed=10, spread=25.0).repeat(5, 1).numpy()
    boxes = objects + 0.1 * rng.normal(size=(150, 5))
    boxes[:, 2:4] = np.abs(boxes[:, 2:4])
    # A few distinct scores only, so that ties are met.
    scores = rng.integers(0, 40, 150) / 40
    labels = rng.integers(0, 3, 150)
    kept = rotated_nms(boxes, scores, labels, max_iou)
    assert kept.tolist() == _sequential_nms(boxes, scores, labels, max_iou)
    assert 3 < len(kept) < 150
