"""Lack of memory: how it is told from other errors, and how it becomes one line."""

import gc
import resource
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch

from mono3d.errors import ConfigError
from mono3d.training.allocator import give_back_freed_memory

_SIGNS = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""In errors that have no type of their own."""
_ONEDNN = ("could not create a primitive", "could not execute a primitive")
"""All that is said where code or scratch memory of a convolution on the CPU was refused."""


class EvaluationMemoryError(MemoryError):
    """An evaluation does not fit."""


@contextmanager
def evaluation_memory() -> Iterator[None]:
    """Mark a lack of memory as one of evaluation.

    Raises:
        EvaluationMemoryError: There is too little memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise EvaluationMemoryError(str(error)) from error
        raise


@contextmanager
def on_shortage(
    device: torch.device, explain: Callable[[type[Exception], str], str]
) -> Iterator[None]:
    """Turn a lack of memory within the context into one line.

    Args:
        device: Whose memory it is.
        explain: Kind of error and memory that was in use → the line. When it is called, all that
            calls within the context held is free again.

    Raises:
        ConfigError: With that line.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        kind = type(error)
        used, total = (size / 2**30 for size in memory_bytes(device))
        _free_frames(error)
    else:
        return
    gc.collect()
    give_back_freed_memory()
    torch.cuda.empty_cache()
    raise ConfigError(explain(kind, f"{used:.1f} of {total:.1f} GiB in use"))


def _free_frames(error: BaseException | None) -> None:
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of GPU or process is exhausted."""
    has_type = isinstance(error, torch.OutOfMemoryError | MemoryError)
    text = str(error)
    return has_type or text in _ONEDNN or any(sign in text for sign in _SIGNS)


def memory_bytes(device: torch.device) -> tuple[int, int]:
    """Memory that is taken, and all there is: of the GPU, else the process's limit or machine."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    if limit != resource.RLIM_INFINITY:
        return psutil.Process().memory_info().vms, limit
    machine = psutil.virtual_memory()
    return machine.total - machine.available, machine.total
