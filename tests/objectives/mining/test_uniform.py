import torch

from mono3d.objectives.mining.protocol import MiningState
from mono3d.objectives.mining.uniform import Uniform
from tests.support.depth_samples import random_samples


def test_a_weighted_loss_is_bit_for_bit_the_loss() -> None:
    samples = random_samples(40)
    loss = (samples.predicted_m - samples.target_m).abs()
    weights = Uniform().weigh(samples, MiningState.initial(), 5.0).weights
    assert torch.equal(weights * loss, torch.where(samples.valid, loss, 0.0))


def test_state_is_passed_on() -> None:
    state = MiningState(median_error=torch.tensor(0.3), steps=torch.tensor(4.0))
    assert Uniform().weigh(random_samples(8), state, 5.0).state is state
