import pytest
import torch
from torch import nn

from mono3d.training.state import WeightAverage

GOOD, BAD = torch.zeros(()), torch.ones(())


class Counting(nn.Module):
    """A weight, a floating buffer and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.register_buffer("mean", torch.tensor(4.0))
        self.register_buffer("count", torch.tensor(7))


def set_all(network: Counting, weight: float, mean: float, count: int) -> None:
    values = {"weight": torch.full((2,), weight), "mean": mean, "count": count}
    network.load_state_dict({name: torch.as_tensor(value) for name, value in values.items()})


def test_the_average_starts_as_a_copy_and_is_its_own() -> None:
    network = Counting()
    average = WeightAverage(network, 0.9)
    set_all(network, 5.0, 5.0, 8)
    assert average.values["weight"].tolist() == [1.0, 2.0]
    assert not average.values["weight"].requires_grad


def test_the_decay_ramps_up_by_hand() -> None:
    """After step 1 the decay is 2/11, after step 2 3/12, much later the limit."""
    network = Counting()
    average = WeightAverage(network, 0.9)
    set_all(network, 0.0, 0.0, 8)
    average.update(1, is_bad=GOOD)
    assert average.values["weight"].tolist() == pytest.approx([2 / 11, 4 / 11])
    assert average.values["mean"].item() == pytest.approx(8 / 11)
    assert average.values["count"] == 8
    average.update(2, is_bad=GOOD)
    assert average.values["weight"][0].item() == pytest.approx(2 / 11 * 3 / 12)
    average.load({"weight": torch.ones(2), "mean": torch.tensor(1.0), "count": torch.tensor(0)})
    average.update(10_000, is_bad=GOOD)
    assert average.values["weight"].tolist() == pytest.approx([0.9, 0.9])


def test_a_bad_step_leaves_it_as_it_is() -> None:
    network = Counting()
    average = WeightAverage(network, 0.9)
    set_all(network, 0.0, 0.0, 7)
    average.update(1, is_bad=BAD)
    assert average.values["weight"].tolist() == [1.0, 2.0]
    assert average.values["mean"] == 4.0


def test_without_decay_it_follows_the_network() -> None:
    network = Counting()
    average = WeightAverage(network, 0.0)
    set_all(network, 3.0, 2.0, 9)
    average.update(50, is_bad=GOOD)
    assert average.values["weight"].tolist() == pytest.approx([3.0, 3.0])


def test_loaded_values_are_copied() -> None:
    network = Counting()
    average = WeightAverage(network, 0.9)
    saved = {"weight": torch.ones(2), "mean": torch.tensor(1.0), "count": torch.tensor(3)}
    average.load(saved)
    average.update(1, is_bad=GOOD)
    assert saved["weight"].tolist() == [1.0, 1.0]
    assert average.values["count"] == 7
