import math

import pytest
import torch

from mono3d.objectives.mining.ghm import GhmMining
from mono3d.structures import DepthSamples
from tests.support.depth_samples import make_samples, random_samples
from tests.support.mining import at_once, weights_of


def off_by(*log_errors: float) -> DepthSamples:
    return make_samples([10 * math.exp(x) for x in log_errors], [10.0] * len(log_errors))


def test_a_sample_weighs_the_inverse_of_the_number_in_its_bin() -> None:
    """The paper's N / (count · bins that are not empty): 4 / (3 · 2) and 4 / (1 · 2)."""
    samples = off_by(0.0, 0.001, 0.5, -0.001)
    assert weights_of(at_once(GhmMining, num_bins=2), samples) == pytest.approx(
        [2 / 3, 2 / 3, 2, 2 / 3]
    )


def test_bins_are_of_the_size_of_the_gradient() -> None:
    # g = |x| / sqrt(x² + .02²): 0, .447, .707, .894 and .9997 lie in bins 0, 4, 7, 8 and 9.
    samples = off_by(0.0, 0.01, -0.02, 0.04, 0.8)
    mining = GhmMining()
    state = mining.weigh(samples, mining.initial_state(), 0.0).state
    assert state["bin_counts"].tolist() == [1, 0, 0, 0, 1, 0, 0, 1, 1, 1]


def test_counts_start_at_the_first_ones_and_move_by_their_momentum() -> None:
    mining = at_once(GhmMining, num_bins=2, momentum=0.75)
    first = mining.weigh(off_by(0.0, 0.0, 0.0, 0.5), mining.initial_state(), 0.0)
    assert first.state["bin_counts"].tolist() == [3, 1]
    second = mining.weigh(off_by(0.0, 0.5, 0.5), first.state, 0.0)
    # .75 · (3, 1) + .25 · (1, 2) = (2.5, 1.25): the first counts half as much as each other.
    assert second.state["bin_counts"].tolist() == [2.5, 1.25]
    assert second.weights.tolist() == pytest.approx([0.6, 1.2, 1.2])


def test_without_momentum_each_step_is_counted_alone() -> None:
    mining = at_once(GhmMining, num_bins=2, momentum=0.0)
    first = mining.weigh(off_by(0.0, 0.0, 0.0, 0.5), mining.initial_state(), 0.0)
    assert mining.weigh(off_by(0.0, 0.5, 0.5), first.state, 0.0).state["bin_counts"].tolist() == [
        1, 2,
    ]  # fmt: skip


def test_a_bin_that_was_empty_for_long_gives_no_infinite_weight() -> None:
    mining = at_once(GhmMining, momentum=0.99)
    state = {"bin_counts": torch.tensor([50.0, *[0.0] * 9])}
    answer = mining.weigh(off_by(0.0, 0.0, 0.5), state, 0.0)
    assert answer.weights.isfinite().all()
    assert answer.weights.sum() == pytest.approx(3)


def test_one_bin_is_no_mining() -> None:
    samples = random_samples(40)
    assert weights_of(at_once(GhmMining, num_bins=1), samples) == pytest.approx(
        samples.valid.float().tolist()
    )
