"""What a search does when a trial begins, was evaluated, or is over; knows nothing of Ray."""

import difflib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from optuna.trial import TrialState

from mono3d.config.load import flatten
from mono3d.errors import ConfigError, Mono3dError, StorageError
from mono3d.search.record import SAME_AS, Proposal, SearchRecord, is_finite, means_of
from mono3d.search.settings import Budget
from mono3d.search.trial import RunEnd, TrialEnd, TrialReport
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.tracker import RunIdentity, Tracker
from mono3d.training.run_description import run_tags

_DIGITS = re.compile(r"\d+")
_STATUSES = {
    "finished": "FINISHED", "tried before": "FINISHED", "stopped early": "KILLED",
    "failed": "FAILED",
}  # fmt: skip
"""In MLflow."""
_STATES = {TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}
_MOST_DEATHS = 3
_MOST_ALIKE = 3
"""Failures in a row for one reason, before anything has worked, that end a search."""


@runtime_checkable
class SearchDisplay(Protocol):
    """Who watches a search."""

    def began(self, proposal: Proposal) -> None:
        """A trial begins, or goes on."""
        ...

    def moved(self, report: TrialReport, value: float) -> None:
        """A trial was evaluated; the value is that of the metric that decides."""
        ...

    def ended(self, number: int, state: str, value: float, reason: str) -> None:
        """A trial is over: finished, stopped early or failed."""
        ...

    def say(self, line: str) -> None:
        """A line for the user."""
        ...


StartTracker = Callable[[Proposal, RunIdentity], Tracker]
"""Opens the record of a trial in MLflow."""


@dataclass
class _Running:
    """A trial on its way."""

    proposal: Proposal
    tracker: Tracker
    value: float = math.nan
    """The last of the metric that decides."""
    step: int = 0
    """The last of its records."""
    deaths: int = 0
    """Of its actors."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How long a search has worked, earlier calls included."""

    earlier_hours: float = 0.0
    began_s: float = field(default_factory=time.monotonic)

    @property
    def hours(self) -> float:
        """So far."""
        return self.earlier_hours + (time.monotonic() - self.began_s) / 3600


def _places(running: _Running) -> dict[str, Any]:
    """Where a trial is to be found."""
    return {"run": running.proposal.run_names[0], "run_id": running.tracker.run_id}


class Conductor:
    """Decides about trials, and writes down what comes of them."""

    def __init__(
        self,
        record: SearchRecord,
        display: SearchDisplay,
        start_tracker: StartTracker,
        parent: Tracker,
    ) -> None:
        """For one call of a search whose record was prepared."""
        self.failure: Mono3dError | None = None
        """Why the search cannot go on."""
        self._record = record
        self._display = display
        self._start_tracker = start_tracker
        self._parent = parent
        self._clock = Clock(earlier_hours=float(record.study.user_attrs.get("hours", 0.0)))
        self._running: dict[int, _Running] = {}
        self._has_proposed_all = False
        self._alike: list[str] = []
        """Reasons of the failures of this call, without their numbers."""

    @property
    def is_over(self) -> bool:
        """Whether there will be no further trial."""
        return self.failure is not None or (self._has_proposed_all and not self._running)

    def begin(self) -> Proposal | None:
        """The next trial; None if there is none, or none yet: see `is_over`.

        Where the budget of time is spent, trials of an earlier call still go on, to their next
        evaluation: they may be through.
        """
        if self.failure is not None:
            return None
        if self._spent() is not None and not self._record.has_unfinished:
            self._has_proposed_all = True
            return None
        proposal = self._propose()
        self._has_proposed_all = proposal is None
        if proposal is None or proposal.same_as is None:
            return proposal
        self._end_as(proposal.number, proposal.same_as)
        return None

    def _propose(self) -> Proposal | None:
        try:
            proposal = self._record.propose()
        except Mono3dError as error:
            self.failure = error
            return None
        if proposal is None:
            return None
        if proposal.number not in self._running:
            tracker = self._start_tracker(proposal, self._identity(proposal))
            self._running[proposal.number] = _Running(proposal=proposal, tracker=tracker)
        self._display.began(proposal)
        return proposal

    def evaluated(self, report: TrialReport) -> bool:
        """Take in a report; whether the trial goes on."""
        running = self._running[report.number]
        self._log(running, report.records, report.run)
        self._record.note_time(report.number)
        for line in report.lines:
            self._display.say(f"trial {report.number}: {line}")
        if not self._is_measured(report.metrics):
            return False
        value = float(report.metrics.get(self._record.metric, math.nan))
        running.value = value
        running.deaths = 0
        self._display.moved(report, value)
        lacking = [m for m in self._objectives if not is_finite(report.metrics, [m])]
        if lacking:
            self._fail(report.number, f"{lacking[0]} is not a number after epoch {report.epoch}")
            return False
        is_bad = report.run == 0 and self._record.is_bad(report.number, report.epoch, value)
        spent = self._spent()
        if is_bad:
            self._stop(report.number, f"worse than others after epoch {report.epoch}")
        elif spent is not None:
            self._stop(report.number, f"{spent} after epoch {report.epoch}")
        self._note_hours()
        return not is_bad and spent is None and self.failure is None

    def ended(self, end: TrialEnd) -> None:
        """Take in a trial's end; one that was stopped before is over already.

        Where the store of checkpoints is at fault, the search ends and the trial does not: the
        next one would fail as well.
        """
        running = self._running.get(end.number)
        if running is None:
            return
        self._record.note_time(end.number)
        for line in end.lines:
            self._display.say(f"trial {end.number}: {line}")
        for number, run in enumerate(end.runs):
            self._log(running, run.records, number)
        self._note_hours()
        if end.is_stores_fault:
            self.failure = StorageError(f"{end.error}; --resume {self._record.name} goes on")
            return
        if end.error is not None:
            self._fail(end.number, end.error)
            return
        if not all(self._is_measured(run.metrics) for run in end.runs):
            return
        lacking = [
            m for m in self._objectives if not all(is_finite(r.metrics, [m]) for r in end.runs)
        ]
        if lacking:
            self._fail(end.number, f"{lacking[0]} is not a number at the end")
        else:
            self._finish(running, end.runs)

    def died(self, number: int, reason: str) -> None:
        """A trial's actor is no more, as when its node goes: it is begun again, a few times."""
        running = self._running.get(number)
        if running is None:
            return
        running.deaths += 1
        if running.deaths > _MOST_DEATHS:
            self._fail(number, f"{reason}, {running.deaths} times in a row")
        else:
            self._display.say(f"trial {number}: {reason}")
            self._record.put_back(number)
            self._has_proposed_all = False

    def settle(self) -> None:
        """Tell MLflow the ends of trials that it was not there to hear, as far as it is now."""
        owed = [n for n in self._record.owed if n not in self._running]
        if self._parent.run_id is not None:  # it is there
            while owed and self._is_told(owed[0]):
                self._record.note_owed(owed.pop(0), is_owed=False)
        if owed:
            self._display.say(
                f"MLflow has not heard the end of {len(owed)} trials: "
                f"mono3d tune --resume {self._record.name} tells it"
            )

    def _is_told(self, number: int) -> bool:
        trial = self._record.trial(number)
        if not trial.state.is_finished():
            return True  # it goes on, and will end again
        proposal = self._record.proposal_of(number)
        tracker = self._start_tracker(proposal, self._identity(proposal))
        running = _Running(proposal=proposal, tracker=tracker)
        if trial.state == TrialState.COMPLETE:
            self._log_objectives(running, trial.values)
            state = "tried before" if SAME_AS in trial.user_attrs else "finished"
        else:
            state = _STATES[trial.state]
        return self._close(running, state, trial.user_attrs.get("reason", ""))

    def abandon(self) -> None:
        """Close the records of trials that go on with the next call."""
        for running in self._running.values():
            running.tracker.close("KILLED")
        for number in self._running:
            self._record.note_time(number)
        self._running.clear()
        self._note_hours()

    @property
    def _objectives(self) -> Sequence[str]:
        return list(self._record.settings.objectives)

    def _identity(self, proposal: Proposal) -> RunIdentity:
        settings, config = self._record.settings, proposal.configs[0]
        return RunIdentity(
            name=f"{self._record.name}-{proposal.number:04d}",
            params=flatten(config),
            tags={
                **run_tags(config, settings.recipe),
                "study": self._record.name,
                "trial": str(proposal.number),
                "seed": ", ".join(map(str, settings.seeds)),
                "trial.settings": ", ".join(f"{k}={v}" for k, v in proposal.settings.items()),
            },
            parent=self._parent,
        )

    def _is_measured(self, metrics: Mapping[str, float]) -> bool:
        """A search for something that its runs do not measure ends with the first evaluation."""
        unknown = [metric for metric in self._objectives if metric not in metrics]
        if unknown and metrics and not self._record.is_measured:
            near = difflib.get_close_matches(unknown[0], metrics, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.failure = ConfigError(f"{unknown[0]}: is not measured by these runs{hint}")
        elif not unknown:
            self._record.note_measured()
        return self.failure is None

    def _log(self, running: _Running, records: Sequence[MetricRecord], run: int) -> None:
        """Those of further seeds have names of their own."""
        if run:
            seed = self._record.settings.seeds[run]
            records = [
                replace(r, metrics={f"seed{seed}/{k}": v for k, v in r.metrics.items()})
                for r in records
            ]
        running.step = max([running.step, *(record.step for record in records)])
        running.tracker.log_metrics(list(records))

    def _finish(self, running: _Running, runs: Sequence[RunEnd]) -> None:
        proposal, tracker = running.proposal, running.tracker
        per_run = [[run.metrics[metric] for metric in self._objectives] for run in runs]
        means = means_of(per_run)
        self._log_objectives(running, means)
        tracker.log_checkpoint(runs[0].best_checkpoint, {"run": proposal.run_names[0]})
        with self._closing(running, "finished", "", means[0]):
            self._record.finish(
                proposal.number,
                per_run,
                run=proposal.run_names[0],
                checkpoint=runs[0].best_checkpoint,
                epochs=self._record.epochs_of(proposal.number),
                run_id=tracker.run_id,
            )

    def _end_as(self, number: int, other: int) -> None:
        """End a trial with the values of one that had the same settings and seeds."""
        running, earlier = self._running[number], self._record.trial(other)
        self._log_objectives(running, earlier.values)
        reason = f"has the settings of trial {other}"
        with self._closing(running, "tried before", reason, earlier.values[0]):
            self._record.finish_as(number, earlier, reason)

    def _log_objectives(self, running: _Running, values: Sequence[float]) -> None:
        now_ms = int(time.time() * 1000)
        metrics = {f"objective/{m}": v for m, v in zip(self._objectives, values, strict=True)}
        running.tracker.log_metrics(
            [MetricRecord(step=running.step, time_ms=now_ms, metrics=metrics)]
        )

    def _stop(self, number: int, reason: str) -> None:
        running = self._running[number]
        with self._closing(running, "stopped early", reason, running.value):
            self._record.stop(number, reason, **_places(running))

    def _fail(self, number: int, reason: str) -> None:
        running = self._running[number]
        with self._closing(running, "failed", reason, math.nan):
            self._record.fail(number, reason, **_places(running))
        self._alike.append(_DIGITS.sub("#", reason))
        last = self._alike[-_MOST_ALIKE:]
        if len(last) == _MOST_ALIKE and len(set(last)) == 1 and not self._record.is_measured:
            self.failure = ConfigError(f"{_MOST_ALIKE} trials failed, all for one reason: {reason}")

    @contextmanager
    def _closing(self, running: _Running, state: str, reason: str, value: float) -> Iterator[None]:
        """Close a trial's record in MLflow, then in the database.

        Killed between the two, the trial goes on with the next call and comes to this again.
        """
        number = running.proposal.number
        is_told = self._close(running, state, reason)
        self._record.note_owed(number, is_owed=not is_told)
        yield
        del self._running[number]
        self._display.ended(number, state, value, reason)

    def _close(self, running: _Running, state: str, reason: str) -> bool:
        """Whether MLflow has heard it."""
        # An earlier call may have left another reason.
        running.tracker.set_tags({"trial.state": state, "trial.reason": reason})
        return running.tracker.close(_STATUSES[state])

    def _spent(self) -> str | None:
        """Which part of the budget is spent; the number of trials only ends proposals."""
        budget: Budget = self._record.settings.budget
        if budget.hours is not None and self._clock.hours >= budget.hours:
            return f"the budget of {budget.hours:g} hours was spent"
        if budget.gpu_hours is not None and self._gpu_hours() >= budget.gpu_hours:
            return f"the budget of {budget.gpu_hours:g} GPU-hours was spent"
        return None

    def _gpu_hours(self) -> float:
        cluster = self._record.config.cluster
        return cluster.workers * cluster.gpus_per_worker * self._record.spent_seconds() / 3600

    def _note_hours(self) -> None:
        self._record.study.set_user_attr("hours", round(self._clock.hours, 4))
