"""What does GMM mining cost in a training step?

    .venv/bin/python -m benchmarks.mining_overhead

The demo's model and batches on two ranks, as in the demo. Counted are all calls that mining adds:
gathering the depth samples of all ranks, weighing them, and its statistics in the steps that log
them. The peer is the rest of the step, CPU time for CPU time: ranks that wait for each other count
for neither.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.support.data import recipe_on, synthetic_folder
from benchmarks.support.measure import Stopwatch, cpu_seconds, interval
from benchmarks.support.rows import Row, publish
from mono3d.objectives import detection
from mono3d.training.allocator import keep_freed_memory
from mono3d.training.distributed import distribute
from mono3d.training.loop import seed_step, train_step
from mono3d.training.parts import Place, build_parts

TARGET = 0.02
_EPOCH = 3
"""Past warm-up and ramp."""


def measure(root: Path, *, ranks: int, intervals: int) -> list[Row]:
    """The share of mining in `intervals` times the steps between two records of metrics."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_train, (root, Path(folder), ranks, intervals), nprocs=ranks)
        seconds = np.load(Path(folder) / "seconds.npy")
    added_ms, rest_ms = 1e3 * seconds.mean(0)
    return [
        Row(
            name=f"GMM mining in a step of the demo on {ranks} ranks",
            ratio=_share(seconds),
            target=TARGET,
            interval=interval(_share, seconds),
            detail=f"{added_ms:.2f} ms of CPU a step, all else {rest_ms:.1f}",
        )
    ]


def _share(seconds: np.ndarray) -> float:
    added, rest = seconds.sum(0)
    return float(added / rest)


def _train(rank: int, root: Path, folder: Path, ranks: int, intervals: int) -> None:
    """One rank; the first one saves seconds a step, of mining and of all else."""
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=ranks
    )
    config = recipe_on(root, "demo")
    parts = build_parts(config, Place(rank=rank, world_size=ranks))
    state, every = parts.state, parts.plan.log_every_steps
    distribute(state, parts.loader)
    state.module.train()
    mining = Stopwatch()
    objective = state.train_module.objective
    objective._mine = mining.around(objective._mine)
    objective._overlap = mining.around(objective._overlap)
    detection.rank_correlation = mining.around(detection.rank_correlation)

    def step(number: int) -> tuple[float, float]:
        batch = next(batches)
        seed_step(parts.plan.seed, number)
        mining.seconds = 0.0
        whole = cpu_seconds(
            lambda: train_step(
                state,
                [batch],
                max_grad_norm=parts.plan.max_grad_norm,
                progress=float(_EPOCH),
                with_statistics=number % every == 0,
            )
        )
        return mining.seconds, whole - mining.seconds

    batches = parts.loader.epoch(_EPOCH)
    seconds = np.array([step(number) for number in range((intervals + 1) * every)])
    if rank == 0:  # the first interval warms up
        np.save(folder / "seconds.npy", seconds.reshape(-1, every, 2).mean(1)[1:])
    dist.destroy_process_group()


def main() -> int:
    """As in the demo."""
    root = synthetic_folder((400, 224), scenes=24)
    return publish("mining_overhead", measure(root, ranks=2, intervals=8))


if __name__ == "__main__":
    sys.exit(main())
