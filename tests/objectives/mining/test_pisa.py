import pytest

from mono3d.objectives.mining.pisa import PisaMining
from tests.support.depth_samples import make_samples, random_samples
from tests.support.mining import at_once, weights_of

# Relative errors .1 and .15 of object 0, .2 and .4 of object 1.
TWO_OBJECTS = make_samples([11.0, 11.5, 12.0, 14.0], [10.0] * 4, object_ids=[0, 0, 1, 1])


def scaled(*factors: float) -> list[float]:
    return [len(factors) * factor / sum(factors) for factor in factors]


def test_the_best_of_each_object_comes_before_all_second_best() -> None:
    """Places 0, 2, 1, 3 of 4, though the second sample has less error than the third."""
    expected = scaled(1.0, 0.5**2, 0.75**2, 0.25**2)
    assert weights_of(at_once(PisaMining), TWO_OBJECTS) == pytest.approx(expected)


def test_power_and_bias() -> None:
    # .2 + .8 · u of u = 1, .5, .75, .25.
    mining = at_once(PisaMining, power=1.0, bias=0.2)
    assert weights_of(mining, TWO_OBJECTS) == pytest.approx(scaled(1.0, 0.6, 0.8, 0.4))


def test_classes_are_ranked_apart() -> None:
    """Each class has two samples, at places 0 and 1 of 2."""
    samples = make_samples(
        [11.0, 12.0, 15.0, 19.0], [10.0] * 4, object_ids=[0, 1, 2, 3], labels=[0, 0, 1, 1]
    )
    assert weights_of(at_once(PisaMining), samples) == pytest.approx(scaled(1, 0.25, 1, 0.25))


def test_with_one_sample_an_object_the_worst_of_many_all_but_vanishes_without_a_bias() -> None:
    """As with a center detector; documented, so it had better be true."""
    samples = make_samples([10.0 + number for number in range(1, 11)], [10.0] * 10)
    assert weights_of(at_once(PisaMining), samples)[-1] == pytest.approx(0.01 * 10 / 3.85)
    assert weights_of(at_once(PisaMining, bias=0.5), samples)[-1] > 0.4


@pytest.mark.parametrize("settings", [{"power": 0.0}, {"bias": 1.0}])
def test_what_is_off_is_no_mining(settings: dict[str, float]) -> None:
    samples = random_samples(40)
    assert weights_of(at_once(PisaMining, **settings), samples) == samples.valid.float().tolist()
