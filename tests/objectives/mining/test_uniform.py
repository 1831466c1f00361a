import torch

from mono3d.objectives.mining.uniform import Uniform
from tests.support.depth_samples import random_samples


def test_a_weighted_loss_is_bit_for_bit_the_loss() -> None:
    samples = random_samples(40)
    loss = (samples.predicted_m - samples.target_m).abs()
    weights = Uniform().weigh(samples, Uniform().initial_state(), 5.0).weights
    assert torch.equal(weights * loss, torch.where(samples.valid, loss, 0.0))


def test_there_is_nothing_to_remember() -> None:
    assert Uniform().initial_state() == {}
    assert Uniform().weigh(random_samples(8), {}, 5.0).state == {}
