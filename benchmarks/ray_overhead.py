"""What does Ray Train add to a training step?

    .venv/bin/python -m benchmarks.ray_overhead

A run of the demo's recipe on two Ray workers. Counted is what rank 0 does because of Ray: messages
to the mailbox, reports of checkpoints (without their upload, which is ours), and the CPU time of
Ray's threads in its process. How often the first two come is the demo's: a record every
`train.log_every_steps`, a report every epoch. The peer is the step itself, with its loading.
"""

import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray.train

from benchmarks.support.data import recipe_on, synthetic_folder
from benchmarks.support.measure import interval
from benchmarks.support.rows import Row, publish
from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.data.loaders import BatchLoader
from mono3d.structures import Batch
from mono3d.training import worker
from mono3d.training.launch import launch
from mono3d.training.parts import Place, RunParts, build_parts
from mono3d.training.state import TrainState

TARGET = 0.03
_OUR_THREADS = ("gloo", "pt_")
"""Beginnings of names: torch's own, which exist without Ray too."""
Seconds = dict[str, list[float]]
"""Wall time of each call or step, by what it is; CPU time of Ray's threads in each epoch."""


def measure(root: Path, *, epochs: int) -> list[Row]:
    """Ten steps in each epoch."""
    demo = load_recipe("demo")
    frames = demo.train.batch_size * demo.cluster.workers
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seconds.json"
        config = recipe_on(
            root.resolve(),
            "demo",
            f"train.epochs={epochs}",
            f"train.epoch_frames={10 * frames}",
            "train.log_every_steps=2",
            "evaluation.at_start=false",
            f"cluster.storage={folder}/runs",
        )
        launch(config, name="measured", build=_TimedParts(path))
        seconds: Seconds = json.loads(path.read_text())
    assert demo.train.epoch_frames is not None
    share = _Share(
        steps_per_record=demo.train.log_every_steps,
        steps_per_epoch=demo.train.epoch_frames // frames,
    )
    samples = [np.array(seconds[n]) for n in ("step", "post", "report", "upload", "threads")]
    step, *added_ms = [1e3 * value for value in share.parts(*samples)]
    names = ("mailbox", "reports", "Ray's threads")
    return [
        Row(
            name="Ray Train in a step of the demo",
            ratio=share(*samples),
            target=TARGET,
            interval=interval(share, *samples),
            detail=f"{step:.0f} ms a step; added "
            + ", ".join(f"{n} {ms:.2f}" for n, ms in zip(names, added_ms, strict=True)),
        )
    ]


@dataclass(frozen=True)
class _Share:
    """Added time over the time of a step."""

    steps_per_record: int
    steps_per_epoch: int

    def parts(
        self,
        step: np.ndarray,
        post: np.ndarray,
        report: np.ndarray,
        upload: np.ndarray,
        threads: np.ndarray,
    ) -> tuple[float, float, float, float]:
        """Seconds of a step, and what mailbox, reports and threads add to it."""
        return (
            float(step.mean()),
            float(post.mean()) / self.steps_per_record,
            float(report.mean() - upload.mean()) / self.steps_per_epoch,
            float(threads.mean()),
        )

    def __call__(self, *samples: np.ndarray) -> float:
        step, *added = self.parts(*samples)
        return sum(added) / step


@dataclass(frozen=True)
class _TimedParts:
    """The run's parts, with clocks on what rank 0 does; an evaluation is a constant."""

    path: Path

    def __call__(self, config: RunConfig, place: Place) -> RunParts:
        parts = replace(build_parts(config, place), evaluate=_no_evaluation)
        if place.rank > 0:
            return parts
        seconds: Seconds = defaultdict(list)
        worker._Worker._post = _timed(worker._Worker._post, seconds["post"])
        worker._Worker._upload = _timed(worker._Worker._upload, seconds["upload"])
        ray.train.report = _timed(ray.train.report, seconds["report"])
        return replace(parts, loader=_TimedLoader(parts.loader, seconds, self.path))


def _no_evaluation(state: TrainState) -> dict[str, float]:
    return {"val/nuscenes_map": 0.0}


def _timed(call: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = call(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return result

    return timed


class _TimedLoader(BatchLoader):
    """Clocks the time from one batch to the next, and saves all clocks after each epoch."""

    def __init__(self, loader: BatchLoader, seconds: Seconds, path: Path) -> None:
        self._loader = loader
        self._seconds = seconds
        self._path = path

    @property
    def batches_per_epoch(self) -> int:
        return self._loader.batches_per_epoch

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        batches = self._loader.epoch(epoch, first_batch)
        yield next(batches)  # the first step of an epoch waits for what ended the last one
        began, count, threads_s = time.perf_counter(), 0, _threads_s()
        for count, batch in enumerate(batches, 1):  # noqa: B007
            yield batch
            now = time.perf_counter()
            self._seconds["step"].append(now - began)
            began = now
        self._seconds["threads"].append((_threads_s() - threads_s) / count)
        self._path.write_text(json.dumps(self._seconds))


def _threads_s() -> float:
    """CPU time of this process's threads that are neither the training's nor torch's."""
    total_ns = 0
    for task in Path("/proc/self/task").iterdir():
        is_ours = (task / "comm").read_text().startswith(_OUR_THREADS)
        if not is_ours and int(task.name) != threading.get_native_id():
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def main() -> int:
    """Sixty steps."""
    return publish("ray_overhead", measure(synthetic_folder((400, 224), scenes=24), epochs=6))


if __name__ == "__main__":
    sys.exit(main())
