"""The row-to-depth baseline: exact where rows tell depth, lost where the camera changes."""

import math

import numpy as np
import pytest
import torch

from mono3d.evaluation.depth_quality import depth_errors
from mono3d.evaluation.row_baseline import fit_row_baseline, ground_rows
from tests.support.boxes import make_boxes

CAMERA_HEIGHT_M, HORIZON_PX = 1.6, 200.0


def _rows(depth_m: np.ndarray, focal_px: float) -> np.ndarray:  # type: ignore[type-arg]
    return HORIZON_PX + focal_px * CAMERA_HEIGHT_M / depth_m


def test_depth_follows_from_the_row_on_a_flat_road_and_a_fixed_camera() -> None:
    rng = np.random.default_rng(0)
    depth_m = rng.uniform(5, 60, 4000)
    labels = rng.integers(0, 2, 4000)
    baseline = fit_row_baseline(_rows(depth_m, 700), depth_m, labels, num_classes=2)
    held_out = rng.uniform(6, 55, 1000)
    predicted = baseline.predict(_rows(held_out, 700), rng.integers(0, 2, 1000))
    assert depth_errors(predicted, held_out)["abs_rel"] < 0.01
    # Another focal length moves every object to the row of another depth.
    zoomed = baseline.predict(_rows(held_out, 1000), np.zeros(1000, dtype=np.int64))
    assert depth_errors(zoomed, held_out)["abs_rel"] == pytest.approx(0.3, abs=0.03)


def test_rows_that_say_nothing_give_the_median_depth_of_the_class() -> None:
    depth_m = np.array([10.0] * 15 + [40.0] * 10 + [5.0] * 25)
    labels = np.array([0] * 25 + [1] * 25)
    baseline = fit_row_baseline(np.full(50, 300.0), depth_m, labels, num_classes=2)
    predicted = baseline.predict(np.array([300.0, 0.0, 900.0]), np.array([0, 0, 1]))
    np.testing.assert_allclose(predicted, [10, 10, 5])


def test_a_rare_class_gets_the_curve_of_all() -> None:
    depth_m = np.linspace(10, 50, 100)
    baseline = fit_row_baseline(_rows(depth_m, 700), depth_m, np.zeros(100, np.int64), 3)
    row = _rows(np.array([30.0]), 700)
    of_known, of_unseen = (baseline.predict(row, np.array([label])) for label in (0, 2))
    assert of_known == of_unseen


def test_no_objects_are_an_error() -> None:
    nothing = np.zeros(0)
    with pytest.raises(ValueError, match="at least one training object"):
        fit_row_baseline(nothing, nothing, np.zeros(0, dtype=np.int64), 2)


def test_ground_rows_are_those_of_the_bottom() -> None:
    one = make_boxes([(3.0, 0.85, 10.0)], dims_hwl=(1.5, 2.0, 4.0))
    projection = torch.tensor([[700.0, 0, 300, 0], [0, 700, HORIZON_PX, 0], [0, 0, 1, 0]])
    assert ground_rows(one, projection).tolist() == [
        pytest.approx(HORIZON_PX + 700 * CAMERA_HEIGHT_M / 10)
    ]
    assert math.isclose(_rows(np.array([10.0]), 700)[0], HORIZON_PX + 112)
