"""What a profile of training steps says: as values, as JSON, and as tables."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

PROFILE = "profile"
"""Folder of a run in which its last profile lies."""
TRACE = "trace.json.gz"
_VALUES = "profile.json"
_TEXT = "profile.txt"
PROFILE_FILES = (TRACE, _VALUES, _TEXT)
_TEXT_COLUMNS = 100
_SHOWN_OPERATORS = 15


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Time of a part of a step, milliseconds a step."""

    name: str
    """Parts of a stage are named after it: `forward/backbone`."""
    host_ms: float
    gpu_ms: float | None = None
    """Of the kernels that were launched there; None without a GPU."""
    calls: float = 1.0
    """A step."""


@dataclass(frozen=True, kw_only=True)
class StepProfile:
    """Where the time of a run's steps goes, as rank 0 sees it."""

    device: str
    workers: int
    frames_per_step: int
    """Over all workers and micro-batches."""
    image_size: tuple[int, int]
    """Height and width of the images that were seen, pixels."""
    steps: int
    """Steps with the profiler; as many were timed without it."""
    step_ms: float
    """Without the profiler."""
    profiled_step_ms: float
    images_per_s: float
    """Over all workers, without the profiler."""
    peak_memory_gib: float
    """Largest resident memory of the process, without its loader processes."""
    peak_gpu_memory_gib: float | None
    """Largest memory that PyTorch held on the GPU; None without one."""
    stages: Sequence[Cost]
    """In the order of a step; the times of a stage include those of its parts."""
    operators: Sequence[Cost]
    """By the time spent in them and not in operators that they call, most first."""


def write_profile(profile: StepProfile, folder: Path) -> None:
    """Write the JSON and the tables as text."""
    (folder / _VALUES).write_text(json.dumps({"format": 1, **asdict(profile)}, indent=2) + "\n")
    with (folder / _TEXT).open("w") as file:
        Console(file=file, width=_TEXT_COLUMNS).print(*tables(profile), sep="\n")


def read_profile(folder: Path) -> StepProfile:
    """What `write_profile` wrote."""
    values = json.loads((folder / _VALUES).read_text())
    del values["format"]
    for name in ("stages", "operators"):
        values[name] = [Cost(**cost) for cost in values[name]]
    return StepProfile(**{**values, "image_size": tuple(values["image_size"])})


def tables(profile: StepProfile) -> Iterator[str | Table]:
    """A profile for a reader: the whole, the stages of a step, the dearest operators."""
    height, width = profile.image_size
    yield (
        f"{profile.images_per_s:.1f} images/s: {profile.step_ms:.1f} ms a step of "
        f"{profile.frames_per_step} frames of {height}x{width} on {profile.workers} x "
        f"{profile.device}"
    )
    memory = f"peak memory {profile.peak_memory_gib:.2f} GiB"
    if profile.peak_gpu_memory_gib is not None:
        memory += f", {profile.peak_gpu_memory_gib:.2f} GiB on the GPU"
    yield f"{memory}; under the profiler, as below, a step took {profile.profiled_step_ms:.1f} ms"
    yield _table(profile, "stage of a step", profile.stages)
    yield _table(profile, "operator, itself", profile.operators[:_SHOWN_OPERATORS], calls=True)


def _table(
    profile: StepProfile, title: str, costs: Sequence[Cost], *, calls: bool = False
) -> Table:
    table = Table(title)
    has_gpu = profile.peak_gpu_memory_gib is not None
    for heading in ("host ms", "share", *(["GPU ms"] * has_gpu), *(["calls"] * calls)):
        table.add_column(heading, justify="right")
    for cost in costs:
        *above, name = cost.name.split("/")
        cells = [f"{cost.host_ms:.2f}", f"{cost.host_ms / profile.profiled_step_ms:.1%}"]
        if has_gpu:
            cells.append("-" if cost.gpu_ms is None else f"{cost.gpu_ms:.2f}")
        if calls:
            cells.append(f"{cost.calls:.1f}")
        table.add_row("  " * len(above) + name, *cells)
    return table
