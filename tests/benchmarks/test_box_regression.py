"""The simulation of IoU losses: its boxes, its bookkeeping, and what holds of GCIoU."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.iou_regression import draw_curves, rows, table
from benchmarks.support.box_regression import (
    LEAST_SIZE_M,
    LOSSES,
    OPTIMISERS,
    REGIMES,
    Paths,
    draw,
    regress,
)

SGD_RATES = (0.01, 0.0316, 0.1, 0.316)
"""Among them is the best of each loss over the whole grid of the benchmark."""


@pytest.mark.parametrize("name", REGIMES)
def test_boxes_start_as_the_regime_says(name: str) -> None:
    regime = REGIMES[name]
    start, target = draw(regime, 200, [0, 1])
    assert start.shape == target.shape == (2, 200, 7)
    turned = (start[..., 6] - target[..., 6]).abs().rad2deg()
    low, high = regime.yaw_deg
    assert low - 0.01 <= turned.min() < turned.max() <= high + 0.01
    spread = (start[..., 3:6] / target[..., 3:6]).log().abs()
    assert 0.95 * math.log(regime.scale) < spread.max() <= math.log(regime.scale) + 1e-5
    assert not torch.equal(start[0], start[1])
    again, _ = draw(regime, 200, [1])
    assert torch.equal(again[0], start[1])


def test_overlap_at_the_start_is_what_the_names_say() -> None:
    ious = {}
    for name, regime in REGIMES.items():
        paths = regress(LOSSES["iou"], *draw(regime, 50, [0]), steps=0, rates=(0.1,))
        ious[name] = paths.iou[0, 0, 0, 0]
    assert ious.pop("beyond overlap") < 1e-6
    assert all(iou > 0.1 for iou in ious.values())


def test_steps_and_best_rates() -> None:
    iou = np.array([[[[0.1, 0.5, 0.8, 0.6]], [[0.1, 0.7, 0.75, 0.95]], [[0.1, 0.1, 0.1, 0.2]]]])
    paths = Paths(iou=iou, optimisers=("sgd",), rates=(1.0, 2.0, 3.0))
    assert paths.steps_to(0.7)[0, :, 0].tolist() == [2, 1, math.inf]
    assert paths.best_rate(0, 0.7) == 1
    assert paths.best_rate(0, 0.99) == 1  # never reached: the highest end


def test_each_rate_and_optimiser_is_on_its_own_and_sizes_stay_positive() -> None:
    start, target = draw(REGIMES["all at once"], 6, [0, 1])
    both = regress(LOSSES["gciou"], start, target, steps=8, rates=(0.01, 3.0))
    alone = regress(
        LOSSES["gciou"], start[1:], target[1:], steps=8, rates=(0.01,), optimisers=("adam",)
    )
    row = OPTIMISERS.index("adam")
    # The mean size of the targets is another without the first seed; Adam does not see it.
    np.testing.assert_allclose(both.iou[row, 0, 1], alone.iou[0, 0, 0], atol=1e-4)
    assert np.isfinite(both.iou).all()
    assert (both.iou >= 0).all()
    assert LEAST_SIZE_M > 0
    with pytest.raises(ValueError, match="optimiser 'lbfgs'"):
        regress(LOSSES["iou"], start, target, steps=1, optimisers=("lbfgs",))


def steps(loss: str, optimiser: str, regime: str, *, most: int, rates: tuple[float, ...]) -> float:
    """Median steps to a mean IoU of 0.7 at the best rate."""
    start, target = draw(REGIMES[regime], 16, range(3))
    paths = regress(LOSSES[loss], start, target, steps=most, rates=rates, optimisers=(optimiser,))
    return float(np.median(paths.steps_to(0.7)[0, paths.best_rate(0, 0.7)]))


def test_gciou_is_well_ahead_by_plain_gradient_descent_from_large_yaw_errors() -> None:
    how = {"most": 40, "rates": SGD_RATES}
    ours = steps("gciou", "sgd", "large yaw errors", **how)  # type: ignore[arg-type]
    assert ours < 10
    for other in ("log_iou", "diou"):
        assert ours < 0.5 * steps(other, "sgd", "large yaw errors", **how), other  # type: ignore[arg-type]


def test_an_adaptive_optimiser_takes_the_lead_away() -> None:
    how = {"most": 40, "rates": (0.1, 0.316)}
    ours = steps("gciou", "adam", "large yaw errors", **how)  # type: ignore[arg-type]
    assert ours > steps("diou", "adam", "large yaw errors", **how)  # type: ignore[arg-type]


def test_beyond_overlap_the_plain_losses_never_arrive_and_gciou_does() -> None:
    how = {"most": 90, "rates": (0.1, 0.316)}
    assert steps("log_iou", "adam", "beyond overlap", **how) == math.inf  # type: ignore[arg-type]
    assert steps("gciou", "adam", "beyond overlap", **how) < 80  # type: ignore[arg-type]


def test_a_study_becomes_a_table_curves_and_rows(tmp_path: Path) -> None:
    found = {
        name: {
            kind: regress(LOSSES[kind], *draw(REGIMES[name], 2, [0]), steps=2, rates=(0.01, 0.1))
            for kind in ("log_iou", "diou", "gciou")
        }
        for name in ("large yaw errors", "beyond overlap")
    }
    text = table(found)
    assert text.count("\n| gciou |") == 2
    assert "never (" in text
    draw_curves(found, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert all(row.ratio > 0 for row in rows(found))
