"""What holds for every mining strategy. A new strategy adds its row to STRATEGIES."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from mono3d.objectives.mining.protocol import MinedWeights, Mining, MiningState
from mono3d.structures import DepthSamples, map_tensors
from tests.support.depth_samples import at, concatenated, make_samples, random_samples
from tests.support.detectors import context_of, make_detector, make_objective
from tests.support.frames import FramesInMemory, make_batch, make_codec
from tests.support.host_sync import NoHostSync
from tests.support.mining import STRATEGIES

MID_RAMP, FULL = 1.5, 9.0
"""Epochs of progress."""


@pytest.fixture(params=list(STRATEGIES))
def strategy(request: pytest.FixtureRequest) -> Mining:
    return STRATEGIES[request.param]()


@pytest.fixture
def state(strategy: Mining) -> MiningState:
    """After a step."""
    return mined(strategy, random_samples(30, seed=5)).state


def same(state: MiningState, other: MiningState) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)


def mined(strategy: Mining, samples: DepthSamples, progress: float = FULL) -> MinedWeights:
    return strategy.weigh(samples, strategy.initial_state(), progress)


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
    assert same(answer.state, state)
    assert all(bool(value.isfinite()) for value in answer.statistics.values())


def test_a_strategy_that_compares_no_samples_weighs_each_as_if_it_were_alone(
    strategy: Mining,
) -> None:
    """And one that says that it compares them does: the exchange is not for nothing."""
    samples = random_samples(40)
    few = at(samples, torch.arange(13))
    is_as_alone = torch.equal(mined(strategy, samples).weights[:13], mined(strategy, few).weights)
    assert is_as_alone != strategy.compares_samples


def test_weights_are_detached(strategy: Mining) -> None:
    samples = random_samples(40)
    attached = replace(
        samples,
        predicted_m=samples.predicted_m.clone().requires_grad_(),
        gradient=samples.gradient.clone().requires_grad_(),
    )
    answer = mined(strategy, attached)
    assert not answer.weights.requires_grad
    assert not any(value.requires_grad for value in answer.state.values())
    assert not any(value.requires_grad for value in answer.statistics.values())


def test_weights_follow_a_permutation(strategy: Mining) -> None:
    samples = random_samples(40)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    expected = mined(strategy, samples).weights[order]
    torch.testing.assert_close(mined(strategy, at(samples, order)).weights, expected)


def test_equal_samples_weigh_the_same_wherever_they_stand(strategy: Mining) -> None:
    """Errors of 5, 10 and 50 %, over and over, one object each and at one depth."""
    samples = make_samples([10.5, 11.0, 15.0] * 7, [10.0] * 21)
    weights = mined(strategy, samples).weights.view(7, 3)
    assert torch.equal(weights, weights[:1].expand(7, 3))
    order = torch.randperm(21, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        mined(strategy, at(samples, order)).weights, weights.flatten()[order]
    )


def test_padding_changes_nothing(strategy: Mining) -> None:
    samples = random_samples(40, capacity=40)
    nonsense = replace(random_samples(24, capacity=24), valid=torch.zeros(24, dtype=torch.bool))
    nonsense = replace(nonsense, predicted_m=nonsense.predicted_m * float("nan"))
    alone, padded = mined(strategy, samples), mined(strategy, concatenated(samples, nonsense))
    torch.testing.assert_close(padded.weights[:40], alone.weights)
    torch.testing.assert_close(padded.state, alone.state)


def test_float32_under_autocast(strategy: Mining) -> None:
    samples = random_samples(40)
    expected = mined(strategy, samples).weights
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = mined(strategy, samples)
    assert answer.weights.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in answer.state.values())
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
    assert same(state_before, state)
    for field in fields(samples):
        assert torch.equal(getattr(samples_before, field.name), getattr(samples, field.name))


def test_no_host_synchronisation(strategy: Mining, state: MiningState) -> None:
    samples = random_samples(40)
    with NoHostSync():
        strategy.weigh(samples, state, MID_RAMP)


def test_before_mining_starts_weights_are_exactly_those_without_mining(strategy: Mining) -> None:
    samples = random_samples(40)
    assert torch.equal(mined(strategy, samples, 0.0).weights, samples.valid.float())


@pytest.mark.parametrize("name", ["predicted_m", "target_m", "gradient"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", [key for key in STRATEGIES if key != "none"])
def test_what_is_not_finite_gets_no_weight_and_is_counted(
    key: str, name: str, value: float
) -> None:
    samples = random_samples(40)
    broken = getattr(samples, name).clone()
    broken[3] = value
    answer = mined(STRATEGIES[key](), replace(samples, **{name: broken}))
    assert answer.weights[3] == 0
    assert bool(answer.weights.isfinite().all())
    assert all(bool(tensor.isfinite().all()) for tensor in answer.state.values())
    assert answer.statistics["non_finite"] == 1
    assert float(answer.weights[samples.valid].mean()) == pytest.approx(1.0, abs=1e-5)


def test_half_way_up_the_ramp_weights_are_half_way(strategy: Mining) -> None:
    samples = random_samples(40)
    full, half = mined(strategy, samples).weights, mined(strategy, samples, MID_RAMP).weights
    torch.testing.assert_close(half, (full + samples.valid) / 2)


def test_the_memory_survives_a_checkpoint(strategy: Mining) -> None:
    """Names of buffers are those of the state; a resumed objective goes on as if never stopped."""
    codec = make_codec()
    batches = [make_batch([FramesInMemory(9)[i]], codec) for i in range(3)]
    says = [make_detector().eval()(batch) for batch in batches]

    def term(objective: torch.nn.Module, number: int) -> Tensor:
        context = context_of(batches[number], progress=FULL)
        depth: Tensor = objective(says[number], batches[number], context).terms["depth"]
        return depth

    first, resumed = (make_objective(codec, mining=strategy) for _ in range(2))
    assert set(first.state_dict()) == {f"mining_{name}" for name in strategy.initial_state()}
    term(first, 0), term(first, 1)
    resumed.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    assert torch.equal(term(first, 2), term(resumed, 2))
    assert same(first.state_dict(), resumed.state_dict())


OUTLIER_WEIGHS_LESS = {
    "gmm": True, "easy_topk": True, "pisa": True, "ohem": False, "focal": False,
}  # fmt: skip


@pytest.mark.parametrize(("key", "less"), OUTLIER_WEIGHS_LESS.items())
def test_what_samples_labelled_far_too_far_weigh(key: str, less: bool) -> None:
    """A fifth of the labels, of some points of all objects, are twice as far as they should be."""
    samples = random_samples(200, capacity=200)
    is_outlier = torch.rand(200, generator=torch.Generator().manual_seed(2)) < 0.2
    samples = replace(samples, target_m=samples.target_m * (1 + is_outlier.float()))
    weights = mined(STRATEGIES[key](), samples).weights
    outliers, others = weights[is_outlier].mean(), weights[~is_outlier].mean()
    assert bool(outliers < 0.7 * others) if less else bool(outliers > 1.3 * others)
