import pytest

from mono3d.objectives.mining.focal import FocalMining
from tests.support.depth_samples import make_samples
from tests.support.mining import at_once, weights_of

# 10 m for 20 m and 30 m for 24 m overlap by 0.5 and 0.8: 0.5 and 0.2 are lacking.
TWO = make_samples([10.0, 30.0], [20.0, 24.0])


@pytest.mark.parametrize(("gamma", "factors"), [(2.0, (0.25, 0.04)), (1.0, (0.5, 0.2))])
def test_weights_are_powers_of_what_quality_lacks(
    gamma: float, factors: tuple[float, float]
) -> None:
    expected = [2 * factor / sum(factors) for factor in factors]
    assert weights_of(at_once(FocalMining, gamma=gamma), TWO) == pytest.approx(expected, rel=1e-5)


def test_a_sample_that_is_right_counts_nothing_unless_all_are() -> None:
    one_right = make_samples([10.0, 12.0], [10.0, 10.0])
    assert weights_of(at_once(FocalMining), one_right) == [0, 2]
    all_right = make_samples([10.0, 10.0], [10.0, 10.0])
    assert weights_of(at_once(FocalMining), all_right) == [1, 1]


def test_tiny_errors_still_differ() -> None:
    """1 - exp(-x) would lose them to rounding: errors of 1 and 2 in a million."""
    samples = make_samples([1000.001, 1000.002], [1000.0, 1000.0])
    near, far = weights_of(at_once(FocalMining), samples)
    assert far / near == pytest.approx(4, rel=0.2)


def test_a_gamma_of_zero_is_no_mining() -> None:
    assert weights_of(at_once(FocalMining, gamma=0.0), TWO) == [1, 1]
