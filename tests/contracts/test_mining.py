"""What holds for every mining strategy. A new strategy adds its row to STRATEGIES."""

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch

from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.mining.protocol import MinedWeights, Mining, MiningState
from mono3d.objectives.mining.uniform import Uniform
from mono3d.structures import DepthSamples, map_tensors
from tests.support.depth_samples import at, concatenated, random_samples
from tests.support.host_sync import NoHostSync

STRATEGIES: dict[str, Callable[[], Mining]] = {
    "none": Uniform,
    "gmm": GmmMining,
    "gmm_ratio": lambda: GmmMining(metric="ratio", gradient_exponent=0.0),
    "gmm_exp_abs": lambda: GmmMining(metric="exp_abs", typical_error=2.0),
    "gmm_linear": lambda: GmmMining(metric="linear", floor=0.0),
    "gmm_per_object": lambda: GmmMining(keep_per_object=0.5, floor=1.0),
}
MID_RAMP, FULL = 1.5, 9.0
"""Epochs of progress."""


@pytest.fixture(params=list(STRATEGIES))
def strategy(request: pytest.FixtureRequest) -> Mining:
    return STRATEGIES[request.param]()


@pytest.fixture
def state() -> MiningState:
    return MiningState(median_error=torch.tensor(0.2), steps=torch.tensor(7.0))


def mined(strategy: Mining, samples: DepthSamples, progress: float = FULL) -> MinedWeights:
    return strategy.weigh(samples, MiningState.initial(), progress)


def test_is_a_mining_strategy(strategy: Mining) -> None:
    assert isinstance(strategy, Mining)


@pytest.mark.parametrize("progress", [0.0, MID_RAMP, FULL])
@pytest.mark.parametrize("num_valid", [1, 40, 64])
def test_weights_are_non_negative_with_mean_one_over_valid_samples(
    strategy: Mining, num_valid: int, progress: float
) -> None:
    samples = random_samples(num_valid)
    weights = mined(strategy, samples, progress).weights
    assert weights.shape == samples.valid.shape
    assert bool((weights >= 0).all())
    assert bool((weights[~samples.valid] == 0).all())
    assert float(weights[samples.valid].mean()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("capacity", [0, 1, 8])
def test_no_object_gives_zeros_and_leaves_the_state(
    strategy: Mining, state: MiningState, capacity: int
) -> None:
    answer = strategy.weigh(random_samples(0, capacity=capacity), state, FULL)
    assert torch.equal(answer.weights, torch.zeros(capacity))
    assert torch.equal(answer.state.median_error, state.median_error)
    assert torch.equal(answer.state.steps, state.steps)
    assert all(bool(value.isfinite()) for value in answer.statistics.values())


def test_weights_are_detached(strategy: Mining) -> None:
    samples = random_samples(40)
    attached = replace(
        samples,
        predicted_m=samples.predicted_m.clone().requires_grad_(),
        gradient=samples.gradient.clone().requires_grad_(),
    )
    answer = mined(strategy, attached)
    assert not answer.weights.requires_grad
    assert not answer.state.median_error.requires_grad
    assert not any(value.requires_grad for value in answer.statistics.values())


def test_weights_follow_a_permutation(strategy: Mining) -> None:
    samples = random_samples(40)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    expected = mined(strategy, samples).weights[order]
    torch.testing.assert_close(mined(strategy, at(samples, order)).weights, expected)


def test_padding_changes_nothing(strategy: Mining) -> None:
    samples = random_samples(40, capacity=40)
    nonsense = replace(random_samples(24, capacity=24), valid=torch.zeros(24, dtype=torch.bool))
    nonsense = replace(nonsense, predicted_m=nonsense.predicted_m * float("nan"))
    alone, padded = mined(strategy, samples), mined(strategy, concatenated(samples, nonsense))
    torch.testing.assert_close(padded.weights[:40], alone.weights)
    torch.testing.assert_close(padded.state.median_error, alone.state.median_error)


def test_float32_under_autocast(strategy: Mining) -> None:
    samples = random_samples(40)
    expected = mined(strategy, samples).weights
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = mined(strategy, samples)
    assert answer.weights.dtype == torch.float32
    assert answer.state.median_error.dtype == torch.float32
    assert torch.equal(answer.weights, expected)


def test_low_precision_samples_are_weighed_in_float32(strategy: Mining) -> None:
    samples = random_samples(40)
    low = replace(samples, predicted_m=samples.predicted_m.bfloat16())
    same_values = replace(samples, predicted_m=samples.predicted_m.bfloat16().float())
    assert torch.equal(mined(strategy, low).weights, mined(strategy, same_values).weights)


def test_inputs_are_left_alone_and_the_answer_is_repeatable(
    strategy: Mining, state: MiningState
) -> None:
    samples = random_samples(40)
    samples_before = map_tensors(samples, torch.clone)
    state_before = map_tensors(state, torch.clone)
    first, second = (strategy.weigh(samples, state, MID_RAMP) for _ in range(2))
    assert torch.equal(first.weights, second.weights)
    for before, after in ((samples_before, samples), (state_before, state)):
        for field in fields(before):
            assert torch.equal(getattr(before, field.name), getattr(after, field.name))


def test_no_host_synchronisation(strategy: Mining, state: MiningState) -> None:
    samples = random_samples(40)
    with NoHostSync():
        strategy.weigh(samples, state, MID_RAMP)


def test_before_mining_starts_weights_are_exactly_those_without_mining(strategy: Mining) -> None:
    samples = random_samples(40)
    assert torch.equal(mined(strategy, samples, 0.0).weights, samples.valid.float())
