"""Errors of depth maps by hand: which cells count, and how images add up."""

import math

import pytest
import torch

from mono3d.evaluation.dense_depth import dense_quality, dense_sums


def test_errors_of_two_images_by_hand() -> None:
    # 10 % too far at 10 m, 20 % too near at 20 m; no LiDAR in the third cell of either.
    first = dense_sums(torch.tensor([[11.0, 3.0]]), torch.tensor([[10.0, 0.0]]))
    second = dense_sums(torch.tensor([[16.0, 3.0]]), torch.tensor([[20.0, 0.0]]))
    metrics = dense_quality([first, second])
    far, near = math.log(1.1), math.log(0.8)
    assert metrics["dense_depth_abs_rel"] == pytest.approx(0.15)
    assert metrics["dense_depth_sq_rel"] == pytest.approx((1 / 10 + 16 / 20) / 2)
    assert metrics["dense_depth_rmse"] == pytest.approx(math.sqrt(17 / 2))
    assert metrics["dense_depth_rmse_log"] == pytest.approx(math.sqrt((far**2 + near**2) / 2))
    spread = (far - near) / 2
    assert metrics["dense_depth_silog"] == pytest.approx(100 * spread)
    assert [metrics[f"dense_depth_delta{k}"] for k in (1, 2, 3)] == [0.5, 1, 1]
    assert metrics["dense_depth_abs_rel_10_20m"] == pytest.approx(0.1)
    assert metrics["dense_depth_abs_rel_20_30m"] == pytest.approx(0.2)
    assert "dense_depth_abs_rel_0_10m" not in metrics


def test_images_without_lidar_say_nothing() -> None:
    assert dense_quality([]) == {}
    assert dense_quality([dense_sums(torch.ones(2, 3), torch.zeros(2, 3))]) == {}
