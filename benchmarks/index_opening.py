"""Does a worker that opens a large nuScenes folder scan it?

    .venv/bin/python -m benchmarks.index_opening

Tables of 30,000 camera frames. A first process builds the index from them: the peer. Then a second
one opens the folder as every worker of a run does, and says how long that took, what it read, and
how much of the index it touched.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.data import recipe_on, synthetic_folder
from benchmarks.support.rows import Row, publish
from benchmarks.support.tables import copy_tables
from mono3d.training.assembly import build_loader
from mono3d.training.datasets import build_dataset
from mono3d.training.parts import run_facts

LIMIT_S = 5.0
READ_TARGET = 0.01
"""Share of the tables' bytes: a process reads a little of itself whatever it does."""
TOUCHED_TARGET = 0.25
"""Share of the index: names of samples and scenes are looked at, objects and poses are not."""


def measure(source: Path, *, copies: int) -> list[Row]:
    """Rows for the tables of a synthetic folder, copied."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        table_bytes = copy_tables(source, root, copies=copies)
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        built, opened = _in_new_process(root), _in_new_process(root)
    frames = f"{opened.frames:,} frames"
    return [
        Row(
            name=f"opening {frames}, of {LIMIT_S:g} s",
            ratio=opened.opening_s / LIMIT_S,
            target=1.0,
            detail=f"{opened.opening_s:.3f} s",
        ),
        Row(
            name="all that a worker of the demo does before its first batch, of the same",
            ratio=(opened.opening_s + opened.start_s) / LIMIT_S,
            target=1.0,
            detail=f"{opened.start_s:.2f} s more, for the sampler's shares and the fingerprint",
        ),
        Row(
            name="opening against building the index",
            ratio=opened.opening_s / built.opening_s,
            detail=f"built in {built.opening_s:.1f} s",
        ),
        Row(
            name="bytes that a second worker reads to open, of the tables'",
            ratio=opened.read_bytes / table_bytes,
            target=READ_TARGET,
            detail=f"{opened.read_bytes} bytes of {table_bytes / 1e6:.0f} MB",
        ),
        Row(
            name="part of the index that it touches",
            ratio=opened.touched,
            target=TOUCHED_TARGET,
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class _Opening:
    """What one process did with a folder."""

    frames: int
    opening_s: float
    start_s: float
    """From there to what is needed before the first batch."""
    read_bytes: int
    """By reading files, while opening."""
    touched: float
    """Resident part of the mapped index, after opening."""


def _in_new_process(root: Path) -> _Opening:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_open, root).result()


def _open(root: Path) -> _Opening:
    config = recipe_on(root, "demo", "data.train_split=all", "data.val_split=all")
    before, start = _read_bytes(), time.perf_counter()
    dataset = build_dataset(config, "train")
    opened, read, touched = time.perf_counter(), _read_bytes() - before, _touched_index()
    build_loader(config, dataset, rank=0, world_size=1)
    run_facts(config, {"train": dataset})
    return _Opening(
        frames=len(dataset),
        opening_s=opened - start,
        start_s=time.perf_counter() - opened,
        read_bytes=read,
        touched=touched,
    )


def _read_bytes() -> int:
    """What this process has read so far, from disk or cache."""
    rows = dict(row.split(": ") for row in Path("/proc/self/io").read_text().splitlines())
    return int(rows["rchar"])


def _touched_index() -> float:
    size_kb, resident_kb, is_index = 0, 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):  # the first line of a mapping
            is_index = bool(rest) and rest[-1].endswith(".safetensors")
        elif is_index and key in ("Size:", "Rss:"):
            size_kb += int(rest[0]) * (key == "Size:")
            resident_kb += int(rest[0]) * (key == "Rss:")
    return resident_kb / size_kb


def main() -> int:
    """A hundred times fifty samples of six cameras."""
    return publish("index_opening", measure(synthetic_folder((400, 224), scenes=24), copies=100))


if __name__ == "__main__":
    sys.exit(main())
