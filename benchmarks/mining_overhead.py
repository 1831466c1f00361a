"""What does each kind of mining cost in a training step?

    .venv/bin/python -m benchmarks.mining_overhead

The demo's model and batches on two ranks, in float32 on every machine. The demo's images are small:
in a step of `kitti_gmm` the same calls are a smaller share. Counted are all calls that mining adds:
gathering the depth samples of all ranks, weighing them, and its statistics in the steps that log
them; of learnt selection also its branch and its softmax, forward and backward. The peer is the
rest of the step, CPU time for CPU time: ranks that wait for each other count for neither.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from benchmarks.support.data import recipe_on, synthetic_folder
from benchmarks.support.measure import Stopwatch, cpu_seconds, interval
from benchmarks.support.rows import Row, publish
from mono3d.config.mining_sections import MiningConfig
from mono3d.objectives import detection
from mono3d.objectives.mining.statistics import rank_correlation
from mono3d.training.allocator import keep_freed_memory
from mono3d.training.distributed import distribute
from mono3d.training.loop import seed_step, train_step
from mono3d.training.parts import Place, build_parts
from mono3d.training.train_module import TrainModule

TARGET = 0.02
KINDS: tuple[str, ...] = tuple(
    kind.model_fields["kind"].default for kind in get_args(get_args(MiningConfig)[0])
)
"""All of `mining.kind`; `none` pays for the gathering and the statistics of logged steps."""
_EPOCH = 3
"""Past warm-up and ramp."""


def measure(root: Path, *, ranks: int, intervals: int, kinds: Sequence[str] = KINDS) -> list[Row]:
    """The share of each kind in `intervals` times the steps between two records of metrics."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_train, (root, Path(folder), ranks, intervals, tuple(kinds)), nprocs=ranks)
        return [_row(kind, ranks, np.load(Path(folder) / f"{kind}.npy")) for kind in kinds]


def _row(kind: str, ranks: int, seconds: np.ndarray) -> Row:
    added_ms, rest_ms = 1e3 * seconds.mean(0)
    return Row(
        name=f"mining.kind={kind} in a step of the demo on {ranks} ranks",
        ratio=_share(seconds),
        target=TARGET,
        interval=interval(_share, seconds),
        detail=f"{added_ms:.2f} ms of CPU a step, all else {rest_ms:.1f}",
    )


def _share(seconds: np.ndarray) -> float:
    added, rest = seconds.sum(0)
    return float(added / rest)


def _train(
    rank: int, root: Path, folder: Path, ranks: int, intervals: int, kinds: tuple[str, ...]
) -> None:
    """One rank; the first one saves seconds a step of each kind, of mining and of all else."""
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=ranks
    )
    for kind in kinds:
        seconds = _seconds(root, kind, Place(rank=rank, world_size=ranks), intervals)
        if rank == 0:
            np.save(folder / f"{kind}.npy", seconds)
    dist.destroy_process_group()


def _seconds(root: Path, kind: str, place: Place, intervals: int) -> np.ndarray:
    """Of mining and of all else: a row of means for each interval but the first."""
    parts = build_parts(
        recipe_on(root, "demo", f"mining.kind={kind}", "train.precision=float32"), place
    )
    state, every = parts.state, parts.plan.log_every_steps
    distribute(state, parts.loader)
    state.module.train()
    mining = Stopwatch()
    _time_mining(mining, state.train_module)

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
    return seconds.reshape(-1, every, 2).mean(1)[1:]


def _time_mining(watch: Stopwatch, module: TrainModule) -> None:
    """Let a stopwatch run in all that mining adds to a step."""
    objective: Any = module.objective
    objective._weigh = watch.around(objective._weigh)
    objective._overlap = watch.around(objective._overlap)
    detection.rank_correlation = watch.around(rank_correlation)
    branch: Any = module.student.selection_branch
    if branch is None:
        return
    branch.forward = watch.around(branch.forward)
    span, convolve, selection = _Span(watch), branch.conv.forward, objective._selection

    def convolve_and_back(features: Tensor) -> Tensor:
        scores: Tensor = convolve(features)
        scores.grad_fn.register_prehook(span.begin)
        scores.grad_fn.register_hook(span.end)
        return scores

    def weigh(logits: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        weights: Tensor = selection.weigh(logits, *args, **kwargs)
        # All that happens between these two gradients is the way back through the softmax.
        weights.register_hook(span.begin)
        logits.register_hook(span.end)
        return weights

    branch.conv.forward = convolve_and_back
    objective._selection = SimpleNamespace(weigh=weigh, blend=selection.blend)


class _Span:
    """CPU seconds between two hooks, for a stopwatch."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._began = 0.0

    def begin(self, *_: object) -> None:
        self._began = time.process_time()

    def end(self, *_: object) -> None:
        self._watch.seconds += time.process_time() - self._began


def main() -> int:
    """As in the demo."""
    root = synthetic_folder((400, 224), scenes=24)
    return publish("mining_overhead", measure(root, ranks=2, intervals=8))


if __name__ == "__main__":
    sys.exit(main())
