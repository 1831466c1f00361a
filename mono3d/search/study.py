"""A study: a recipe under several settings and seeds, as runs side by side, and what they show.

Each run is an ordinary one with a name of its own: killed in the middle it goes on from its last
checkpoint, finished it is not repeated. On Ray every run is a trainer of its own and Ray's
scheduler finds it a place; runs of one study are started by as many threads as fit the cluster.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol, runtime_checkable

from mono3d.errors import Mono3dError
from mono3d.search.paired import Difference, compare
from mono3d.search.study_metrics import compared
from mono3d.search.study_record import CellResult, StudyRecord, cell_fingerprint
from mono3d.search.variants import Cell, StudySpec
from mono3d.training.datasets import SPLITS, build_dataset
from mono3d.training.progress import Progress, ProgressSink
from mono3d.training.run_record import RunResult

_LOOK_EVERY_S = 0.3
_PATIENCE_S = 10
"""With runs that are given up."""


@runtime_checkable
class StudyDisplay(Protocol):
    """Who watches a study."""

    def cell(self, cell: Cell, progress: Progress) -> None:
        """A run has moved on."""
        ...

    def done(self, cell: Cell, result: CellResult, *, is_new: bool) -> None:
        """A run has ended, or was found among the results."""
        ...

    def say(self, line: str) -> None:
        """A line for the user."""
        ...


RunCell = Callable[[Cell, ProgressSink], RunResult]
"""Trains one run to its end."""


def run_cells(
    cells: Sequence[Cell],
    record: StudyRecord,
    run: RunCell,
    *,
    parallel: int,
    display: StudyDisplay,
    fingerprint_of: Callable[[Cell], str],
) -> list[CellResult]:
    """Run what is not known yet, `parallel` runs at a time, and write down each result at once.

    A run that fails is recorded with its reason, and the others go on.

    Args:
        cells: In the order in which they are started.
        record: Where results are.
        run: Trains one; called from several threads.
        parallel: Runs at a time, at least 1.
        display: Who watches.
        fingerprint_of: See `Fingerprints`.

    Returns:
        A result of every cell, in their order.

    Raises:
        DataError: Data cannot be read, or results cannot be written.
    """
    wanted: SimpleQueue[tuple[Cell, str]] = SimpleQueue()
    for cell in cells:
        fingerprint = fingerprint_of(cell)
        known = record.find(cell.variant, cell.seed, fingerprint)
        if known is None:
            wanted.put((cell, fingerprint))
        else:
            display.done(cell, known, is_new=False)

    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                cell, fingerprint = wanted.get_nowait()
            except Empty:
                return
            result = _run_one(cell, fingerprint, run, _CellSink(cell, display, stop))
            if stop.is_set() and result.error is not None:
                return
            record.add(result)
            display.done(cell, result, is_new=True)

    _in_threads(work, parallel, stop)
    return record.results([(cell.variant, cell.seed) for cell in cells])


def differences(spec: StudySpec, results: Sequence[CellResult]) -> dict[str, list[Difference]]:
    """Variant → its differences to the baseline, seed by seed; those without results left out."""
    by_variant: dict[str, dict[int, dict[str, float]]] = {name: {} for name in spec.variants}
    for result in results:
        if result.error is None and result.variant in by_variant:
            by_variant[result.variant][result.seed] = dict(result.metrics)
    found = {
        name: compare(
            name,
            values,
            by_variant[spec.baseline],
            declared=spec.metric,
            less_declared=spec.mode == "min",
        )
        for name, values in by_variant.items()
        if name != spec.baseline
    }
    return {name: compared_ones for name, compared_ones in found.items() if compared_ones}


def weaknesses(spec: StudySpec, results: Sequence[CellResult]) -> list[str]:
    """What the baseline should have reached and has not; then the study proves nothing."""
    found = []
    ours = [r for r in results if r.variant == spec.baseline and r.error is None]
    for metric, least in spec.least.items():
        values = [result.metrics[metric] for result in ours if metric in result.metrics]
        if values and (mean := sum(values) / len(values)) < least:
            found.append(f"{spec.baseline} reaches {metric} {mean:.3f}, not {least:g}")
    return found


def _run_one(cell: Cell, fingerprint: str, run: RunCell, sink: ProgressSink) -> CellResult:
    began = time.monotonic()
    try:
        result = run(cell, sink)
    except (Exception, KeyboardInterrupt) as error:
        reason = (
            str(error) if isinstance(error, Mono3dError) else f"{type(error).__name__}: {error}"
        )
        return CellResult(
            variant=cell.variant, seed=cell.seed, fingerprint=fingerprint, error=reason
        )
    return CellResult(
        variant=cell.variant,
        seed=cell.seed,
        fingerprint=fingerprint,
        metrics=compared(result.metrics),
        steps=result.steps,
        seconds=round(time.monotonic() - began, 1),
        checkpoint=result.best_checkpoint,
        run_id=result.run_id,
    )


class _Worker(threading.Thread):
    """A thread whose error is not lost."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


def _in_threads(work: Callable[[], None], count: int, stop: threading.Event) -> None:
    """Work in threads until all are done, one has failed, or this thread is interrupted."""
    workers = [_Worker(work) for _ in range(count)]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            time.sleep(_LOOK_EVERY_S)
            if any(worker.error is not None for worker in workers):
                break
    finally:
        stop.set()
        for worker in workers:  # their runs end at their next sign of life
            worker.join(_PATIENCE_S)
    for worker in workers:
        if worker.error is not None:
            raise worker.error


@dataclass(frozen=True)
class _CellSink:
    """Tells the study's display what a run does; interrupts the run when the study is."""

    cell: Cell
    display: StudyDisplay
    stop: threading.Event

    def update(self, progress: Progress) -> None:
        self._go_on()
        self.display.cell(self.cell, progress)

    def say(self, line: str) -> None:
        self._go_on()
        self.display.say(f"{self.cell.label}: {line}")

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt


class Fingerprints:
    """Of cells; data sets that several have in common are opened once."""

    def __init__(self) -> None:
        """None known yet."""
        self._of_data: dict[str, dict[str, str]] = {}

    def __call__(self, cell: Cell) -> str:
        """What decides a run's result, data included; see `cell_fingerprint`.

        Raises:
            Mono3dError: The data cannot be read.
        """
        config = cell.config
        asked = config.model_dump_json(include={"data", "input", "evaluation"})
        key = f"{asked} {config.model.has_depth_map}"
        if key not in self._of_data:
            self._of_data[key] = {
                split: build_dataset(config, split).fingerprint for split in SPLITS
            }
        return cell_fingerprint(config, self._of_data[key])
