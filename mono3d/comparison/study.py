"""A study: a recipe under several settings and seeds, as runs side by side, and what they show.

Each run is an ordinary one with a name of its own: killed in the middle it goes on from its last
checkpoint, finished it is not repeated. On Ray every run is a trainer of its own and Ray's
scheduler finds it a place; runs of one study are started by as many threads as fit the cluster.
"""

import difflib
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Protocol, runtime_checkable

from mono3d.comparison.paired import Difference, compare
from mono3d.comparison.study_metrics import compared, less_is_better
from mono3d.comparison.study_record import TEACHER, CellResult, Identity, StudyRecord
from mono3d.comparison.variants import Cell, StudySpec
from mono3d.config.model_sections import GridModel
from mono3d.errors import ConfigError, Mono3dError
from mono3d.training.datasets import SPLITS, build_dataset
from mono3d.training.progress import Progress, ProgressSink
from mono3d.training.run_record import RunResult
from mono3d.training.teachers import teacher_facts, with_teacher_found

_logger = logging.getLogger(__name__)

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


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run of a study with all that decides its result."""

    cell: Cell
    identity: Identity

    @property
    def key(self) -> tuple[str, int]:
        """Variant and seed."""
        return self.cell.variant, self.cell.seed


RunCell = Callable[[Planned, ProgressSink], RunResult]
"""Trains one run to its end."""


def identify(cells: Sequence[Cell]) -> list[Planned]:
    """Find out on which data each run works; data that several have in common are opened once.

    Raises:
        Mono3dError: Data cannot be read, or a teacher is not there.
    """
    opened: dict[str, dict[str, str]] = {}
    planned = []
    for cell in cells:
        config = cell.config
        # On a grid a frame is a whole moment, with a fingerprint of its own.
        key = config.model_dump_json(include={"data", "input", "evaluation"})
        key += str(isinstance(config.model, GridModel))
        if key not in opened:
            # Without LiDAR, which some variants read and others do not: frames and labels decide.
            opened[key] = {
                split: build_dataset(config, split, with_points=False).fingerprint
                for split in SPLITS
            }
        data = dict(opened[key])
        teacher = teacher_facts(with_teacher_found(config))
        if teacher is not None:
            data[TEACHER] = teacher.fingerprint
        planned.append(Planned(cell=cell, identity=Identity(config=config, data=data)))
    measured = {plan.identity.data["val"]: plan.cell.variant for plan in planned}
    if len(measured) > 1:
        first, second, *_ = measured.values()
        raise ConfigError(
            f"variants {first} and {second}: are measured on unlike frames, so that no difference "
            "between them means anything; give all of them one validation split"
        )
    return planned


def run_cells(
    planned: Sequence[Planned],
    spec: StudySpec,
    record: StudyRecord,
    run: RunCell,
    *,
    parallel: int,
    display: StudyDisplay,
) -> list[CellResult]:
    """Run what is not known yet, `parallel` runs at a time, and write down each result at once.

    A run that fails is recorded with its reason, and the others go on.

    Args:
        planned: In the order in which they are started.
        spec: Says which metrics must be there.
        record: Where results are.
        run: Trains one; called from several threads.
        parallel: Runs at a time, at least 1.
        display: Who watches.

    Returns:
        A result of every run, in their order.

    Raises:
        ConfigError: The declared metric is not measured by these runs.
        DataError: Results cannot be written.
    """
    results: dict[tuple[str, int], CellResult] = {}
    wanted: SimpleQueue[Planned] = SimpleQueue()
    for plan in planned:
        known = record.find(*plan.key, plan.identity.config, plan.identity.data)
        if known is None:
            wanted.put(plan)
        else:
            results[plan.key] = known
            display.done(plan.cell, known, is_new=False)
    _check_declared(spec, results.values(), f"by the runs in {record.path}")
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                plan = wanted.get_nowait()
            except Empty:
                return
            result = _run_one(plan, spec, run, _CellSink(plan.cell, display, stop))
            if stop.is_set() and result.error is not None:
                return  # given up, not failed
            record.add(result, plan.identity)
            results[plan.key] = result
            display.done(plan.cell, result, is_new=True)
            _check_declared(spec, list(results.values()), "by these runs")

    _in_threads(work, parallel, stop)
    return [results[plan.key] for plan in planned]


def known_results(cells: Sequence[Cell], record: StudyRecord) -> list[CellResult]:
    """The results that are there of these runs, all on the same data, whichever those are.

    Runs that have the same in `data` must have learnt from the same frames, and all runs must have
    been measured on the same.

    Raises:
        ConfigError: They are of several data sets, or those of a variant of several teachers, which
            no report may mix.
    """
    found = [
        (cell.config.data.model_dump_json(), *known)
        for cell in cells
        for known in record.of_any_data(cell.variant, cell.seed, cell.config)
    ]
    learnt: dict[str, set[str | None]] = {}
    teachers: dict[str, set[str | None]] = {}
    for wanted, data, result in found:
        learnt.setdefault(wanted, set()).add(data.get("train"))
        teachers.setdefault(result.variant, set()).add(data.get(TEACHER))
    measured = {data.get("val") for _, data, _ in found}
    if len(measured) > 1 or any(len(known) > 1 for known in learnt.values()):
        raise ConfigError(
            f"{record.path}: has these runs on several data sets; without --report the data at "
            "data.root choose"
        )
    mixed = [variant for variant, known in teachers.items() if len(known) > 1]
    if mixed:
        raise ConfigError(
            f"{record.path}: has runs of {mixed[0]} with several teachers; without --report the "
            "one at distillation.teacher chooses"
        )
    return [result for _, _, result in found]


def differences(spec: StudySpec, results: Sequence[CellResult]) -> dict[str, list[Difference]]:
    """Variant → its differences to the baseline, seed by seed; those without results left out.

    Nothing is judged where the baseline does not work, see `weaknesses`.
    """
    by_variant: dict[str, dict[int, Mapping[str, float]]] = {name: {} for name in spec.variants}
    for result in results:
        if result.error is None and result.variant in by_variant:
            by_variant[result.variant][result.seed] = result.metrics
    is_weak = bool(weaknesses(spec, results))
    found = {
        name: compare(
            name,
            values,
            by_variant[spec.baseline],
            declared=spec.metric,
            less_is_better=lambda metric: (
                spec.mode == "min" if metric == spec.metric else less_is_better(metric)
            ),
        )
        for name, values in by_variant.items()
        if name != spec.baseline
    }
    return {
        name: [replace(row, verdict="open") if is_weak else row for row in rows]
        for name, rows in found.items()
        if rows
    }


def weaknesses(spec: StudySpec, results: Sequence[CellResult]) -> list[str]:
    """What the baseline should have reached and has not; then the study proves nothing."""
    ours = [r.metrics for r in results if r.variant == spec.baseline and r.error is None]
    found, is_measured = [], False
    for metric, least in spec.least.items():
        values = [metrics[metric] for metrics in ours if metric in metrics]
        is_measured |= bool(values)
        if values and (mean := sum(values) / len(values)) < least:
            found.append(f"{spec.baseline} reaches {metric} {mean:.3f}, not {least:g}")
    if ours and spec.least and not is_measured:
        found.append(f"{spec.baseline} was not measured by {' or '.join(spec.least)}")
    return found


def _run_one(plan: Planned, spec: StudySpec, run: RunCell, sink: ProgressSink) -> CellResult:
    began = monotonic()
    result = CellResult(
        variant=plan.cell.variant, seed=plan.cell.seed, identity=plan.identity.digest
    )
    try:
        found = run(plan, sink)
    except Mono3dError as error:
        return replace(result, error=str(error))
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, Exception):
            _logger.warning("%s failed", plan.cell.label, exc_info=True)
        return replace(result, error=f"{type(error).__name__}: {error}")
    return replace(
        result,
        metrics=compared(found.metrics, also=[spec.metric, *spec.least]),
        steps=found.steps,
        seconds=round(monotonic() - began, 1),
        checkpoint=found.last_checkpoint,
        run_id=found.run_id,
    )


def _check_declared(spec: StudySpec, results: Collection[CellResult], by: str) -> None:
    """After a first run rather than after all. One run may lack it: it was not finite there."""
    measured = [result.metrics for result in results if result.error is None]
    if measured and not any(spec.metric in metrics for metrics in measured):
        near = difflib.get_close_matches(spec.metric, measured[0], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"metric={spec.metric}: is not measured {by}{hint}")


class _Worker(threading.Thread):
    """A thread whose error is not lost, and for which no interpreter waits at its end."""

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
            sleep(_LOOK_EVERY_S)
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
