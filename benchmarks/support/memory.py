"""Memory of some work: how much the largest resident set of a fresh process grows over it."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import TypeVarTuple

Arguments = TypeVarTuple("Arguments")


def peak_gib() -> float:
    """Largest resident set of this process so far."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**20


def in_fresh_process(measure: Callable[[*Arguments], float], *arguments: *Arguments) -> float:
    """What a function of a module says in a process that has done nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)
