"""The C library's memory: kept for the next step, or given back to the system."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20
_TRIM_THRESHOLD = 1 << 30


def keep_freed_memory() -> None:
    """Make glibc keep what is freed, up to 1 GiB; other C libraries stay as they are.

    Activations of one step are freed and asked for again in the next. By default glibc gives them
    back to the kernel in between, and on virtual machines the page faults were a tenth of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)


def give_back_freed_memory() -> None:
    """Make glibc return what is free; other C libraries stay as they are."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
