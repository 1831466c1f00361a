"""Depth errors by hand, pairs made in the image, and what is left out."""

import math

import numpy as np
import pytest
import torch

from mono3d.evaluation.depth_quality import (
    DepthPairs,
    concatenate,
    depth_errors,
    depth_quality,
    match_in_image,
    pair_depths,
)
from mono3d.geometry.boxes import corners_cam
from mono3d.structures import Boxes3D, Detections
from tests.support.boxes import make_boxes

CLASSES = ("car", "pedestrian")
PROJECTION = torch.tensor([[500.0, 0, 300, 0], [0, 500, 200, 0], [0, 0, 1, 0]])
IMAGE_SIZE = (400, 600)


def _pairs(
    predicted: list[float],
    true: list[float],
    labels: list[int],
    ranges: list[float] | None = None,
    visibility: list[float] | None = None,
) -> DepthPairs:
    return DepthPairs(
        predicted_m=np.array(predicted, dtype=float),
        true_m=np.array(true, dtype=float),
        labels=np.array(labels, dtype=np.int64),
        range_m=np.array(true if ranges is None else ranges, dtype=float),
        visibility=np.array([math.nan] * len(true) if visibility is None else visibility),
    )


def _match(found: Boxes3D, scores: list[float], truth: Boxes3D) -> list[float]:
    detections = Detections(boxes=found, scores=torch.tensor(scores))
    return match_in_image(detections, truth, PROJECTION, IMAGE_SIZE).predicted_m.tolist()


def test_errors_by_hand() -> None:
    # 10 % too far and 20 % too near: log errors ln 1.1 and ln 0.8.
    errors = depth_errors(np.array([11.0, 16.0]), np.array([10.0, 20.0]))
    far, near = math.log(1.1), math.log(0.8)
    assert errors["abs_rel"] == pytest.approx(0.15)
    assert errors["sq_rel"] == pytest.approx((1 / 10 + 16 / 20) / 2)
    assert errors["rmse"] == pytest.approx(math.sqrt((1 + 16) / 2))
    assert errors["rmse_log"] == pytest.approx(math.sqrt((far**2 + near**2) / 2))
    variance = (far**2 + near**2) / 2 - ((far + near) / 2) ** 2
    assert errors["silog"] == pytest.approx(100 * math.sqrt(variance))
    # 20 / 16 is exactly 1.25, which is not below it.
    assert [errors[f"delta{k}"] for k in (1, 2, 3)] == [0.5, 1.0, 1.0]


def test_scale_errors_do_not_count_in_silog() -> None:
    true = np.array([5.0, 10.0, 40.0])
    assert depth_errors(true * 1.3, true)["silog"] == pytest.approx(0, abs=1e-9)
    assert depth_errors(true, true)["abs_rel"] == 0


def test_depths_that_are_not_positive_give_finite_errors() -> None:
    errors = depth_errors(np.array([-3.0, 0.0]), np.array([10.0, 10.0]))
    assert all(math.isfinite(value) for value in errors.values())
    assert errors["abs_rel"] == pytest.approx(0.99)


def test_quality_by_class_and_range() -> None:
    pairs = _pairs([11, 24, 33], [10, 20, 30], [0, 0, 1], [9.99, 25, 60])
    metrics = depth_quality(pairs, CLASSES, "centers")
    assert metrics["centers_depth_abs_rel"] == pytest.approx(0.4 / 3)
    assert metrics["centers_depth_abs_rel_car"] == pytest.approx(0.15)
    assert metrics["centers_depth_abs_rel_pedestrian"] == pytest.approx(0.1)
    assert metrics["centers_depth_abs_rel_0_10m"] == pytest.approx(0.1)
    assert metrics["centers_depth_abs_rel_20_30m"] == pytest.approx(0.2)
    assert metrics["centers_depth_abs_rel_50m_up"] == pytest.approx(0.1)
    assert "centers_depth_abs_rel_10_20m" not in metrics
    assert not any("recall" in name for name in metrics)


def test_quality_by_visible_share() -> None:
    pairs = _pairs([11, 24, 33, 52], [10, 20, 30, 40], [0] * 4, visibility=[0.2, 0.4, 1, math.nan])
    metrics = depth_quality(pairs, CLASSES, "centers")
    assert metrics["centers_depth_abs_rel_visible_0_40"] == pytest.approx(0.1)
    assert metrics["centers_depth_abs_rel_visible_40_60"] == pytest.approx(0.2)
    assert metrics["centers_depth_abs_rel_visible_80_100"] == pytest.approx(0.1)
    assert "centers_depth_abs_rel_visible_60_80" not in metrics
    assert metrics["centers_depth_abs_rel"] == pytest.approx((0.1 + 0.2 + 0.1 + 0.3) / 4)


def test_missed_objects_lower_recall_and_touch_no_error() -> None:
    pairs = _pairs([11, math.nan, math.nan], [10, 20, 30], [0, 0, 1])
    metrics = depth_quality(pairs, CLASSES, "matched")
    assert metrics["matched_depth_recall"] == pytest.approx(1 / 3)
    assert metrics["matched_depth_recall_car"] == 0.5
    assert metrics["matched_depth_recall_pedestrian"] == 0
    assert metrics["matched_depth_abs_rel"] == pytest.approx(0.1)
    assert "matched_depth_abs_rel_pedestrian" not in metrics
    assert not any(math.isnan(value) for value in metrics.values())


def test_no_objects_give_no_metrics() -> None:
    assert depth_quality(concatenate([]), CLASSES, "matched") == {}


def test_concatenate_keeps_the_order() -> None:
    both = concatenate(
        [
            _pairs([1], [2], [0], visibility=[0.1]),
            _pairs([3, 4], [5, 6], [1, 0], visibility=[0.2, 0.3]),
        ]
    )
    assert both.visibility.tolist() == [0.1, 0.2, 0.3]
    assert both.true_m.tolist() == [2, 5, 6]
    assert both.labels.tolist() == [0, 1, 0]
    assert len(both) == 3


def test_pairs_leave_out_padding_and_centres_behind_the_camera() -> None:
    truth = make_boxes([(3, 1, 4), (0, 1, -5), (0, 1, 9)], labels=[1, 0, 0])
    padded = Boxes3D(**{**vars(truth), "valid": torch.tensor([True, True, False])})
    pairs = pair_depths(torch.tensor([4.5, 1.0, 1.0]), padded)
    assert pairs.predicted_m.tolist() == [4.5]
    assert pairs.labels.tolist() == [1]
    assert pairs.range_m.tolist() == [5]


def test_match_does_not_look_at_depth() -> None:
    truth = make_boxes([(2, 0, 10)])
    for factor in (0.3, 1.0, 4.0):
        found = make_boxes([(2 * factor, 0, 10 * factor)])
        assert _match(found, [0.5], truth) == pytest.approx([10 * factor])


def test_match_needs_the_class_and_a_centre_on_the_object() -> None:
    # Its near face, 8 m away, is 125 px wide: half of that is 62.5 px, or 1.25 m at 10 m.
    truth = make_boxes([(0, 0, 10)])
    assert _match(make_boxes([(1.2, 0, 10)]), [0.5], truth) == [10]
    assert np.isnan(_match(make_boxes([(1.3, 0, 10)]), [0.5], truth)).all()
    assert np.isnan(_match(make_boxes([(0, 0, 10)], labels=[1]), [0.5], truth)).all()
    assert np.isnan(_match(make_boxes([(0, 0, -10)]), [0.5], truth)).all()


def test_the_better_score_chooses_first_and_takes_the_nearest() -> None:
    truth = make_boxes([(0, 0, 10), (0.5, 0, 10)])
    # The better one, nearest to the second object, takes it although the other would fit too.
    found = make_boxes([(0.45, 0, 11), (0.4, 0, 12)])
    assert _match(found, [0.3, 0.9], truth) == pytest.approx([11, 12])
    assert _match(found, [0.9, 0.3], truth) == pytest.approx([12, 11])


def test_match_equals_sequential_choice_on_crowded_images() -> None:
    generator = torch.Generator().manual_seed(0)
    place = torch.rand(60, 3, generator=generator) * torch.tensor([8.0, 1.0, 10.0])
    rows = (place + torch.tensor([-4.0, 0.0, 10.0])).tolist()
    labels = torch.randint(0, 2, (60,), generator=generator).tolist()
    truth, found = (
        make_boxes(rows[:20], labels=labels[:20]),
        make_boxes(rows[20:], labels=labels[20:]),
    )
    scores = torch.randint(1, 9, (40,), generator=generator) / 10
    expected = _sequential_choice(found, scores.tolist(), truth)
    np.testing.assert_allclose(_match(found, scores.tolist(), truth), expected)
    assert np.isfinite(expected).sum() > 5


def _sequential_choice(found: Boxes3D, scores: list[float], truth: Boxes3D) -> list[float]:
    """The rule of `match_in_image`, one detection after the other, with plain numbers."""
    corners = corners_cam(truth.centers, truth.dims_hwl, truth.yaw).tolist()
    answer = [math.nan] * len(truth)
    for index in sorted(range(len(found)), key=lambda index: -scores[index]):
        x, y, z = found.centers[index].tolist()
        best, best_offset = -1, 0.5
        for other, (tx, ty, tz) in enumerate(truth.centers.tolist()):
            us = [min(max(300 + 500 * cx / cz, 0), 600) for cx, _, cz in corners[other]]
            vs = [min(max(200 + 500 * cy / cz, 0), 400) for _, cy, cz in corners[other]]
            offset = max(
                abs(500 * (x / z - tx / tz)) / (max(us) - min(us)),
                abs(500 * (y / z - ty / tz)) / (max(vs) - min(vs)),
            )
            is_free = math.isnan(answer[other]) and truth.labels[other] == found.labels[index]
            if is_free and offset <= best_offset:
                best, best_offset = other, offset
        if best >= 0:
            answer[best] = z
    return answer


@pytest.mark.parametrize(("num_found", "num_true"), [(0, 2), (2, 0), (0, 0)])
def test_match_without_detections_or_objects(num_found: int, num_true: int) -> None:
    found = make_boxes([(0, 0, 10)] * num_found)
    answer = _match(found, [0.5] * num_found, make_boxes([(0, 0, 10)] * num_true))
    assert len(answer) == num_true
    assert np.isnan(answer).all()
