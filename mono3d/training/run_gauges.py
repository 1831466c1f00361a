"""What a run shows to Prometheus, through the exporter that Ray has on every node.

Ray puts `ray_` before each name. What stands here comes from worker 0, and ends with it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.util.metrics import Gauge

from mono3d.training.progress import Progress

_RUN, _TERM = "run", "term"
_LOSS = "loss/"
_SHOWN = {
    "train/images_per_s": "images_per_second",
    "train/data_wait_share": "data_wait_share",
    "train/depth_error": "depth_error",
    "train/skipped_steps": "skipped_steps",
}


class RunGauges:
    """Of one run, by its name."""

    def __init__(self, run: str) -> None:
        """Nothing is shown yet."""
        self._run = {_RUN: run}
        self._step = _gauge("step", "Optimiser steps done.")
        self._total = _gauge("total_steps", "Steps that the run has.")
        self._loss = _gauge("loss", "Weighted loss terms, means over an interval.", _TERM)
        self._checkpoint = _gauge("checkpoint_seconds", "To write and store the last checkpoint.")
        self._others = {
            metric: _gauge(name, f"{metric}, see docs/mlflow.md.")
            for metric, name in _SHOWN.items()
        }

    def show(self, progress: Progress) -> None:
        """The last of everything."""
        self._step.set(progress.step, self._run)
        self._total.set(progress.total_steps, self._run)
        if progress.record is None:
            return
        for name, value in progress.record.metrics.items():
            if name.startswith(_LOSS):
                self._loss.set(value, {**self._run, _TERM: name.removeprefix(_LOSS)})
            elif name in self._others:
                self._others[name].set(value, self._run)

    @contextmanager
    def checkpoint(self) -> Iterator[None]:
        """Around a checkpoint, from its first file to its last byte in the store."""
        began = time.perf_counter()
        yield
        self._checkpoint.set(time.perf_counter() - began, self._run)


def _gauge(name: str, about: str, *tags: str) -> Gauge:
    return Gauge(f"mono3d_{name}", description=about, tag_keys=(_RUN, *tags))
