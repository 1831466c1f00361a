"""The mode forbids what it says, and nothing else."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.host_sync import NoHostSync

FORBIDDEN: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "branch": lambda x: bool(x.sum() > 0),
    "nonzero": torch.nonzero,
    "mask_read": lambda x: x[x > 0],
    "mask_write": lambda x: x.index_put_((x > 0,), torch.zeros(())),
    "masked_select": lambda x: torch.masked_select(x, x > 0),
    "scalar_index": lambda x: x[torch.tensor(0)],
    "unique": torch.unique,
    "equal": lambda x: torch.equal(x, x),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "array": np.asarray,
    "cpu": lambda x: x.cpu(),
}


@pytest.mark.parametrize("action", FORBIDDEN.values(), ids=FORBIDDEN)
def test_waiting_for_the_device_is_an_error(action: Callable[[Tensor], object]) -> None:
    values = torch.arange(4.0)
    with NoHostSync(), pytest.raises(AssertionError, match="waits for the device"):
        action(values)


def test_index_where_and_sort_are_allowed() -> None:
    values = torch.arange(4.0)
    with NoHostSync():
        result = torch.where(values > 1, values[torch.tensor([3, 2, 1, 0])], 0.0).sort().values
    assert result.tolist() == [0.0, 0.0, 0.0, 1.0]
