import pytest

from mono3d.objectives.mining.ohem import Ohem
from tests.support.depth_samples import make_samples
from tests.support.mining import at_once, weights_of

TEN_ERRORS = make_samples([10.0 + error for error in (3, 1, 4, 10, 5, 9, 2, 6, 8, 7)], [10.0] * 10)


def test_the_hardest_seventy_percent_share_the_weight() -> None:
    # Relative errors .3, .1, .4, 1, .5, .9, .2, .6, .8, .7: the three of .1 to .3 are left out.
    expected = [0 if number in (0, 1, 6) else 10 / 7 for number in range(10)]
    assert weights_of(at_once(Ohem), TEN_ERRORS) == pytest.approx(expected)


def test_at_least_one_sample_counts() -> None:
    assert weights_of(at_once(Ohem, share=1e-3), TEN_ERRORS) == [0, 0, 0, 10, *[0] * 6]


def test_all_that_tie_with_the_last_one_count() -> None:
    # Half of four are two, but the second hardest error comes twice: 4/3 each.
    samples = make_samples([15.0, 12.0, 12.0, 11.0], [10.0] * 4)
    assert weights_of(at_once(Ohem, share=0.5), samples) == pytest.approx([4 / 3] * 3 + [0])


def test_a_share_of_one_is_no_mining() -> None:
    assert weights_of(at_once(Ohem, share=1.0), TEN_ERRORS) == [1.0] * 10
