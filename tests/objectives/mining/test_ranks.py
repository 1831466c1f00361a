import math

import pytest
import torch
from torch import Tensor

from mono3d.objectives.mining.ranks import least_of, least_of_all, ranks_within


def kept(
    errors: list[float], ids: list[int], share: float, valid: list[bool] | None = None
) -> list[bool]:
    mask = torch.tensor([True] * len(ids) if valid is None else valid)
    return least_of(torch.tensor(ids), torch.tensor(errors), mask, share).tolist()


def test_keeps_the_least_errors_of_each_object() -> None:
    # Object 7 has 3 samples: ceil(0.5 · 3) = 2 stay. Object 2 has 2: 1 stays. Object 9 has 1.
    errors, ids = [0.3, 0.1, 0.9, 0.2, 0.8, 0.5], [7, 2, 7, 7, 2, 9]
    assert kept(errors, ids, 0.5) == [True, True, False, True, False, True]


def test_share_of_one_keeps_all_and_the_least_share_keeps_one() -> None:
    errors, ids = [0.3, 0.1, 0.2, 5.0], [4, 4, 4, 1]
    assert kept(errors, ids, 1.0) == [True] * 4
    assert kept(errors, ids, 1e-9) == [False, True, False, True]


def test_ties_with_the_last_one_kept_are_kept() -> None:
    assert kept([0.2, 0.1, 0.2, 0.3], [0, 0, 0, 0], 0.5) == [True, True, True, False]


def test_padding_is_never_kept_and_takes_no_place() -> None:
    valid = [False, True, True, False]
    assert kept([0.0, 0.4, 0.3, float("nan")], [5, 5, 5, 5], 0.5, valid) == [
        False,
        False,
        True,
        False,
    ]


def test_all_distinct_none_valid_and_empty() -> None:
    assert kept([1.0, 2.0, 3.0], [3, 1, 2], 0.5) == [True, True, True]
    assert kept([1.0, 2.0], [0, 0], 0.5, [False, False]) == [False, False]
    empty = least_of(
        torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, dtype=torch.bool), 0.5
    )
    assert empty.shape == (0,)


def test_places_count_what_comes_before_and_equals_share_one() -> None:
    groups = torch.tensor([5, 5, 2, 5, 5, 2])
    keys = torch.tensor([0.2, 0.1, 0.7, 0.2, 0.3, 0.6])
    ranks = ranks_within(groups, [keys], torch.ones(6, dtype=torch.bool))
    assert ranks.before.tolist() == [1, 0, 1, 1, 3, 0]
    assert ranks.size.tolist() == [4, 4, 2, 4, 4, 2]


def test_a_second_key_decides_among_equals_of_the_first() -> None:
    first, second = torch.tensor([1, 0, 1, 0]), torch.tensor([0.1, 0.9, 0.05, 0.2])
    together = torch.zeros(4, dtype=torch.int64)
    ranks = ranks_within(together, [first, second], torch.ones(4, dtype=torch.bool))
    assert ranks.before.tolist() == [3, 1, 2, 0]


def test_what_is_not_valid_takes_no_place() -> None:
    valid = torch.tensor([False, True, True])
    keys = torch.tensor([float("nan"), 2.0, 1.0])
    ranks = ranks_within(torch.zeros(3, dtype=torch.int64), [keys], valid)
    assert ranks.before[1:].tolist() == [1, 0]
    assert ranks.size[1:].tolist() == [2, 2]


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9])
def test_equals_a_loop_over_objects(share: float) -> None:
    generator = torch.Generator().manual_seed(3)
    errors = torch.rand(200, generator=generator)
    ids = torch.randint(0, 40, (200,), generator=generator) * 2**41
    valid = torch.rand(200, generator=generator) < 0.8
    expected = _loop(errors, ids, valid, share)
    assert torch.equal(least_of(ids, errors, valid, share), expected)


@pytest.mark.parametrize("share", [1e-9, 0.1, 0.4, 0.6, 1.0])
@pytest.mark.parametrize("num_valid", [0, 1, 200])
def test_the_least_of_all_are_those_of_one_group(num_valid: int, share: float) -> None:
    generator = torch.Generator().manual_seed(3)
    errors = torch.randint(0, 50, (200,), generator=generator).float()
    valid = torch.arange(200) < num_valid
    errors[~valid] = torch.nan
    one_group = torch.zeros(200, dtype=torch.int64)
    expected = least_of(one_group, errors, valid, share)
    assert torch.equal(least_of_all(errors, valid, share), expected)
    assert expected.sum() >= min(num_valid, 1)
    nothing = torch.zeros(0)
    assert least_of_all(nothing, nothing.bool(), share).shape == (0,)


def _loop(errors: Tensor, ids: Tensor, valid: Tensor, share: float) -> Tensor:
    expected = torch.zeros(len(ids), dtype=torch.bool)
    for number in ids[valid].unique():
        members = torch.nonzero(valid & (ids == number))[:, 0]
        count = max(1, math.ceil(share * len(members) - 1e-6))
        expected[members[errors[members].argsort()[:count]]] = True
    return expected
