"""A mode under which an operation that makes the host wait for the device is an error."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_READS_DATA = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")
"""Names (or their beginnings, as in `_unique2`) of operations whose result the host reads."""
_TO_HOST = (Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__)
"""On the CPU these are no operations at all, so only the call itself tells of them."""


class NoHostSync:
    """Forbids `.item()`, a branch on a tensor, `nonzero`, boolean-mask indexing and `.tolist()`."""

    def __init__(self) -> None:
        self._modes = (_NoCalls(), _NoOperations())

    def __enter__(self) -> None:
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _NoOperations(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = func._schema.name.split("::")[1]
        waits = name.lstrip("_").startswith(tuple(word.lstrip("_") for word in _READS_DATA))
        if waits or (name.startswith("index") and _has_mask(args)):
            raise AssertionError(f"aten::{name} waits for the device")
        return func(*args, **(kwargs or {}))


class _NoCalls(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func in _TO_HOST:
            raise AssertionError(f"Tensor.{func.__name__} waits for the device")
        return func(*args, **(kwargs or {}))


def _has_mask(args: Any) -> bool:
    indices = args[1] if len(args) > 1 else ()
    tensors = indices if isinstance(indices, (list, tuple)) else ()
    return any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in tensors)
