import math

import pytest

from mono3d.objectives.mining.range_cut import RangeCut
from tests.support.depth_samples import make_samples
from tests.support.mining import at_once, weights_of


def of_depths(*depths_m: float):  # type: ignore[no-untyped-def]
    return make_samples([10.0] * len(depths_m), list(depths_m))


def test_what_lies_outside_counts_nothing() -> None:
    samples = of_depths(1.9, 2.0, 60.0, 60.1)
    assert weights_of(at_once(RangeCut), samples) == [0, 2, 2, 0]


def test_the_soft_form_falls_off_around_the_limit_and_keeps_what_is_near() -> None:
    samples = of_depths(1.0, 60.0, 70.0)
    factors = [1 / (1 + math.exp(-5.9)), 0.5, 1 / (1 + math.e)]
    expected = [3 * factor / sum(factors) for factor in factors]
    assert weights_of(at_once(RangeCut, softness_m=10.0), samples) == pytest.approx(expected)


def test_a_step_with_nothing_inside_counts_all_alike() -> None:
    assert weights_of(at_once(RangeCut), of_depths(70.0, 80.0)) == [1, 1]


def test_predictions_do_not_matter() -> None:
    near, far = make_samples([5.0, 5.0], [10.0, 90.0]), make_samples([99.0, 80.0], [10.0, 90.0])
    assert weights_of(at_once(RangeCut), near) == weights_of(at_once(RangeCut), far) == [2, 0]
