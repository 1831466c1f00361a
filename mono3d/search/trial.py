"""One trial on Ray: an actor of Tune's that launches the trial's runs and says how they stand.

Workers wait after each evaluation until the search has decided, so a trial that is stopped early
ends as any run does: its worker group is taken down by Ray Train itself and leaves nothing behind.
"""

import os
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune

from mono3d.config.load import parse
from mono3d.errors import Mono3dError, StorageError
from mono3d.storage.location import check_access
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.redact import redact
from mono3d.training.mailbox import Question
from mono3d.training.progress import Progress
from mono3d.training.run_record import run_location

_PATIENCE_S = 60.0
"""With a run that was told to end, and takes down its workers."""


@dataclass(frozen=True, kw_only=True)
class TrialOrder:
    """What a trial's actor is told."""

    number: int
    runs: Sequence[tuple[str, Mapping[str, Any]]]
    """Name and config, as a tree, of each run; they follow each other."""
    directory: str
    """Where relative paths start."""


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """A trial has been evaluated, and waits."""

    number: int
    run: int
    """Which of its runs, from 0."""
    epoch: int
    metrics: Mapping[str, float]
    records: Sequence[MetricRecord] = ()
    """All since the last report, the steps' too."""
    lines: Sequence[str] = ()
    """For the user."""


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """What came of one of a trial's runs."""

    metrics: Mapping[str, float]
    """Of the last evaluation."""
    best_checkpoint: str
    records: Sequence[MetricRecord] = ()
    """Since the last report."""


@dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """A trial is over."""

    number: int
    runs: Sequence[RunEnd] = ()
    """All of them, unless there is an error."""
    error: str | None = None
    """Why it failed, in one line."""
    is_stores_fault: bool = False
    """Whether that is not the trial's fault: the store of all runs cannot be used."""
    lines: Sequence[str] = ()


MESSAGE = "message"
"""Key of a TrialReport or TrialEnd in what Tune calls a result."""


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """Tune's view of a trial: a step is an evaluation. Kept alive for the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the trial that `config` orders."""
        self._ended: list[_Work] = []
        self._begin(config["order"])

    def step(self) -> dict[str, Any]:
        """Let the trial go on, and wait until it has been evaluated again or is over."""
        message = self._work.next_message()
        return {MESSAGE: message, "done": isinstance(message, TrialEnd)}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process, whose imports are done.

        Its workers wait for the resources that the one before gives back meanwhile.
        """
        self._end()
        self._begin(new_config["order"])
        return True

    def cleanup(self) -> None:
        """End the trial; where it stands between evaluations it dies with this process."""
        self._end()
        for work in self._ended:
            work.join(_PATIENCE_S)

    def _end(self) -> None:
        if self._work.end():
            self._ended.append(self._work)

    def _begin(self, order: TrialOrder) -> None:
        if Path(order.directory).is_dir():  # on another machine it need not exist
            os.chdir(order.directory)
        self._work = _Work(order)
        self._work.start()


@dataclass
class _Collected:
    """What has come since the last message."""

    records: list[MetricRecord] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class _Work(threading.Thread):
    """Launches the runs of a trial; talks with the thread in which Tune calls."""

    def __init__(self, order: TrialOrder) -> None:
        super().__init__(daemon=True)
        self._order = order
        self._messages: queue.SimpleQueue[TrialReport | TrialEnd] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._is_asked = False
        """Whether a report waits for its answer."""
        self._run = 0
        self._new = _Collected()

    def next_message(self) -> TrialReport | TrialEnd:
        """Called by Tune's thread: answer yes to what was asked, wait for the next."""
        if self._is_asked:
            self._is_asked = False
            self._answers.put(True)
        message = self._messages.get()
        self._is_asked = isinstance(message, TrialReport)
        return message

    def end(self) -> bool:
        """Called by Tune's thread: whether it ends in good order, as where it waits for an answer.

        Between evaluations there is nobody to tell.
        """
        if not self._is_asked:
            return not self.is_alive()
        self._is_asked = False
        self._answers.put(False)
        return True

    def run(self) -> None:
        """Launch one run after the other."""
        try:
            ends = []
            for name, tree in self._order.runs:
                end = self._launch(name, tree)
                if end is None:
                    return
                ends.append(end)
                self._run += 1
            end_of_all = TrialEnd(number=self._order.number, runs=ends, lines=self._new.lines)
        except BaseException as error:
            end_of_all = TrialEnd(
                number=self._order.number,
                error=_in_a_line(error),
                is_stores_fault=isinstance(error, StorageError) and not self._has_store(),
                lines=self._new.lines,
            )
        self._messages.put(end_of_all)

    def update(self, progress: Progress) -> None:
        """As a ProgressSink: keep records for the next report."""
        if progress.record is not None:
            self._new.records.append(progress.record)

    def say(self, line: str) -> None:
        """As a ProgressSink: keep lines for the next report."""
        self._new.lines.append(line)

    def _launch(self, name: str, tree: Mapping[str, Any]) -> RunEnd | None:
        """None if the run was ended on the way."""
        from mono3d.training.launch import launch  # torch: after this actor has said that it lives

        has_gone_on = True

        def judge(question: Question) -> bool:
            nonlocal has_gone_on
            # A worker that died after the answer asks again when it is back.
            has_gone_on = has_gone_on and self._ask(question)
            return has_gone_on

        result = launch(parse(tree, source="trial"), name=name, sink=self, judge=judge)
        if not has_gone_on:
            return None
        new, self._new = self._new, _Collected(lines=self._new.lines)
        return RunEnd(
            metrics=result.metrics,
            best_checkpoint=result.best_checkpoint,
            records=new.records,
        )

    def _has_store(self) -> bool:
        """Whether the store of the runs answers; an error may be of a teacher's, or of one file."""
        name, tree = self._order.runs[self._run]
        try:
            folder, _, _ = run_location(parse(tree, source="trial"), name).rpartition("/")
            check_access(folder)
        except Mono3dError:
            return False
        return True

    def _ask(self, question: Question) -> bool:
        new, self._new = self._new, _Collected()
        self._messages.put(
            TrialReport(
                number=self._order.number,
                run=self._run,
                epoch=question.epoch,
                metrics=question.metrics,
                records=new.records,
                lines=new.lines,
            )
        )
        return self._answers.get()


def _in_a_line(error: BaseException) -> str:
    text = redact(str(error))  # it goes into the database
    if isinstance(error, Mono3dError):
        return text
    lines = text.strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
