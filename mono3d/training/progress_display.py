"""A run on the terminal."""

import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from mono3d.training.mining_watch import MiningWatch
from mono3d.training.progress import NoDisplay, Progress

_LINE_EVERY_S = 10.0
_SHOWN = {
    "loss/total": "loss {:.3f}",
    "train/depth_error": "depth error {:.1%}",
    "train/images_per_s": "{:.1f} images/s",
}


class Lines(NoDisplay):
    """Only what is said, a line each."""

    def say(self, line: str) -> None:
        """Print it."""
        print(line, file=sys.stderr)


class ProgressDisplay:
    """A bar with epoch, step, loss, depth error, images/s and time left; lines in a log file.

    Used as a context: `with ProgressDisplay(epochs=12, metric="val/nuscenes_map") as sink:`.
    """

    def __init__(self, *, epochs: int, metric: str, console: Console | None = None) -> None:
        """`metric` is shown after each evaluation."""
        self._epochs = epochs
        self._metric = metric
        self._console = console or Console(file=sys.stderr)
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(bar_width=20),
            TextColumn("step"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, start=False, epoch=0, figures="starting")
        self._last_line_s = -_LINE_EVERY_S
        self._last_evaluation = -1
        self._mining = MiningWatch()

    def __enter__(self) -> "ProgressDisplay":
        """Start to draw."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal in order."""
        self._bar.stop()

    def update(self, progress: Progress) -> None:
        """Draw a record, or say that an evaluation begins."""
        if progress.record is None:
            self._say_all(self._mining.close())
            self._draw(progress, "evaluating")
            return
        metrics = progress.record.metrics
        self._say_all(self._mining.add(metrics))
        if self._metric in metrics and progress.record.step > self._last_evaluation:
            self._last_evaluation = progress.record.step
            self.say(f"step {progress.record.step}: {self._metric} {metrics[self._metric]:.4f}")
        if "loss/total" in metrics:
            self._draw(progress, figures(metrics))

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False, highlight=False)

    def _say_all(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.say(line)

    def _draw(self, progress: Progress, shown: str) -> None:
        step, total = progress.step, progress.total_steps
        epoch = min(progress.epoch + 1, self._epochs)
        self._bar.start_task(self._task)
        self._bar.update(self._task, total=total, completed=step, epoch=epoch, figures=shown)
        is_due = time.monotonic() - self._last_line_s >= _LINE_EVERY_S
        if not self._console.is_terminal and is_due:
            self._last_line_s = time.monotonic()
            self.say(f"epoch {epoch}/{self._epochs} step {step}/{total} {shown}")


def figures(metrics: Mapping[str, float]) -> str:
    """The metrics worth a glance, in words."""
    shown = [text.format(metrics[name]) for name, text in _SHOWN.items() if name in metrics]
    return "  ".join(shown)
