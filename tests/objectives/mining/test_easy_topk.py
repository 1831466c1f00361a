import pytest

from mono3d.objectives.mining.easy_topk import EasyTopk
from tests.support.depth_samples import make_samples
from tests.support.mining import at_once, weights_of

TEN_ERRORS = make_samples([10.0 + error for error in (3, 1, 4, 10, 5, 9, 2, 6, 8, 7)], [10.0] * 10)


def test_the_easiest_seventy_percent_share_the_weight() -> None:
    # Relative errors .3, .1, .4, 1, .5, .9, .2, .6, .8, .7: the three of .8 and more are left out.
    expected = [0 if number in (3, 5, 8) else 10 / 7 for number in range(10)]
    assert weights_of(at_once(EasyTopk), TEN_ERRORS) == pytest.approx(expected)


def test_easy_is_relative_to_the_depth() -> None:
    # 2 m of 50 m is 4 %, 1 m of 10 m is 10 %.
    samples = make_samples([52.0, 11.0], [50.0, 10.0])
    assert weights_of(at_once(EasyTopk, share=0.5), samples) == [2, 0]


def test_all_that_tie_with_the_last_one_count() -> None:
    samples = make_samples([15.0, 12.0, 12.0, 11.0], [10.0] * 4)
    assert weights_of(at_once(EasyTopk, share=0.5), samples) == pytest.approx([0] + [4 / 3] * 3)


def test_a_share_of_one_is_no_mining() -> None:
    assert weights_of(at_once(EasyTopk, share=1.0), TEN_ERRORS) == [1.0] * 10
