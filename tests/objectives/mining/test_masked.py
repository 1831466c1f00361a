import numpy as np
import pytest
import torch

from mono3d.objectives.mining.masked import masked_mean, masked_quantile, scaled_to_mean_one

NAN = float("nan")


def test_mean_of_masked_values_only() -> None:
    values, mask = torch.tensor([1.0, NAN, 5.0]), torch.tensor([True, False, True])
    assert float(masked_mean(values, mask)) == 3.0
    assert float(masked_mean(values, torch.zeros(3, dtype=torch.bool))) == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], 3.0), ([5.0, 1.0, 3.0], 3.0), ([5.0, 1.0, 3.0, 4.0], 3.5), ([2.0, 2.0, 9.0], 2.0)],
)
def test_median_is_the_middle_or_the_mean_of_the_middle_two(
    values: list[float], expected: float
) -> None:
    padded = torch.tensor([NAN, *values, float("inf"), 0.0])
    mask = torch.tensor([False, *[True] * len(values), False, False])
    assert float(masked_quantile(padded, mask, 0.5)) == expected


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("count", [1, 2, 21, 64])
def test_quantile_equals_numpy(count: int, share: float) -> None:
    values = torch.randn(64, generator=torch.Generator().manual_seed(count))
    ours = masked_quantile(values, torch.arange(64) < count, share)
    assert float(ours) == pytest.approx(np.quantile(values[:count].numpy(), share), abs=1e-5)


def test_quantile_of_nothing_is_zero() -> None:
    assert float(masked_quantile(torch.zeros(0), torch.zeros(0, dtype=torch.bool), 0.5)) == 0.0
    assert float(masked_quantile(torch.ones(3), torch.zeros(3, dtype=torch.bool), 0.5)) == 0.0


def test_weights_sum_to_the_number_of_valid_samples() -> None:
    usable = torch.tensor([True, True, False, False])
    valid = torch.tensor([True, True, True, False])
    scaled = scaled_to_mean_one(torch.tensor([1.0, 3.0, 0.0, 0.0]), usable, valid)
    assert scaled.tolist() == [0.75, 2.25, 0.0, 0.0]


def test_all_zero_weights_become_equal_ones() -> None:
    usable = torch.tensor([True, True, False])
    valid = torch.tensor([True, True, True])
    assert scaled_to_mean_one(torch.zeros(3), usable, valid).tolist() == [1.5, 1.5, 0.0]
    assert scaled_to_mean_one(torch.zeros(3), usable & False, valid).tolist() == [0.0, 0.0, 0.0]
