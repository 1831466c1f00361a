from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from mono3d.errors import ConfigError
from mono3d.search.conductor import Clock, Conductor
from mono3d.search.record import Proposal
from mono3d.search.trial import RunEnd, TrialEnd, TrialReport
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.tracker import NullTracker, RunIdentity
from tests.support.searches import METRIC, new_record, reopened, sqlite_url


class Records(NullTracker):
    """What MLflow would get of one trial."""

    run_id = "run"
    server_is_there = True

    def __init__(self, identity: RunIdentity) -> None:
        self.identity = identity
        self.metrics: dict[str, float] = {}
        self.tags: dict[str, str] = {}
        self.checkpoint: str | None = None
        self.status: str | None = None

    def log_metrics(self, records: Sequence[MetricRecord]) -> None:
        for record in records:
            self.metrics |= record.metrics

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self.tags |= tags

    def log_checkpoint(self, uri: str, facts: Mapping[str, object]) -> None:
        self.checkpoint = uri

    def close(self, status: str) -> bool:
        self.status = status
        return self.server_is_there


class Lines:
    """A display that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def began(self, proposal: Proposal) -> None:
        self.lines.append(f"began {proposal.number}")

    def moved(self, report: TrialReport, value: float) -> None:
        self.lines.append(f"moved {report.number} {report.epoch}")

    def ended(self, number: int, state: str, value: float, reason: str) -> None:
        self.lines.append(f"ended {number} {state}")

    def say(self, line: str) -> None:
        self.lines.append(line)


class Search:
    """A conductor with all that it talks to."""

    def __init__(self, url: str, *, is_new: bool = True, **settings: Any) -> None:
        self.record = new_record(url, **settings) if is_new else reopened(url)
        self.display = Lines()
        self.trackers: dict[int, Records] = {}
        self.trackers_hear = True
        self.parent = NullTracker()
        self.parent.run_id = "parent"
        self.conductor = Conductor(self.record, self.display, self._start, self.parent)

    def _start(self, proposal: Proposal, identity: RunIdentity) -> Records:
        tracker = self.trackers[proposal.number] = Records(identity)
        tracker.server_is_there = self.trackers_hear
        return tracker

    def begin(self) -> int:
        """The next trial that is to be run."""
        while (proposal := self.conductor.begin()) is None:
            assert not self.conductor.is_over
        return proposal.number

    def evaluated(self, number: int, epoch: int, value: float, **changed: Any) -> bool:
        report = TrialReport(number=number, run=0, epoch=epoch, metrics={METRIC: value})
        return self.conductor.evaluated(TrialReport(**{**vars(report), **changed}))

    def ended(self, number: int, *values: float, error: str | None = None) -> None:
        runs = [
            RunEnd(metrics={METRIC: value}, best_checkpoint=f"best{i}")
            for i, value in enumerate(values)
        ]
        self.conductor.ended(TrialEnd(number=number, runs=runs, error=error))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path)


def record_of(step: int, **metrics: float) -> MetricRecord:
    return MetricRecord(step=step, time_ms=step, metrics=metrics)


def test_a_finished_trial_is_in_the_database_and_in_its_record(url: str) -> None:
    search = Search(url, repeats=2)
    number = search.begin()
    assert search.evaluated(number, 1, 0.5, records=[record_of(3, loss=1.0)])
    assert search.evaluated(number, 1, 0.7, run=1, records=[record_of(3, loss=2.0)])
    search.ended(number, 0.2, 0.4)
    trial = search.record.trial(number)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, pytest.approx(0.3))
    assert trial.intermediate_values == {1: 0.5, 9: 0.2}
    tracker = search.trackers[number]
    assert tracker.identity.parent is search.parent
    assert tracker.identity.params["optim.lr"] == str(trial.params["optim.lr"])
    assert tracker.metrics == {
        "loss": 1.0,
        "seed1/loss": 2.0,
        f"objective/{METRIC}": pytest.approx(0.3),
    }
    assert (tracker.status, tracker.checkpoint) == ("FINISHED", "best0")
    assert tracker.tags == {"trial.state": "finished", "trial.reason": ""}
    assert search.display.lines[-1] == f"ended {number} finished"


def test_a_trial_worse_than_others_is_stopped_and_its_end_counts_no_more(url: str) -> None:
    search = Search(url)
    good, bad = search.begin(), search.begin()
    assert search.evaluated(good, 1, 0.1)
    assert not search.evaluated(bad, 1, 0.9)
    search.ended(bad, 0.05)
    trial = search.record.trial(bad)
    assert (trial.state, trial.value) == (TrialState.PRUNED, 0.9)
    assert trial.user_attrs["reason"] == "worse than others after epoch 1"
    assert search.trackers[bad].status == "KILLED"
    assert search.trackers[bad].tags["trial.state"] == "stopped early"
    assert search.trackers[good].status is None


def test_only_the_first_seed_decides_about_stopping(url: str) -> None:
    search = Search(url, repeats=2)
    good, other = search.begin(), search.begin()
    assert search.evaluated(good, 1, 0.1)
    assert search.evaluated(other, 1, 0.05)
    assert search.evaluated(other, 1, 0.9, run=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_trial_that_diverges_fails_with_the_epoch(url: str, value: float) -> None:
    search = Search(url)
    number = search.begin()
    assert search.evaluated(number, 1, 0.5)
    assert not search.evaluated(number, 2, value)
    trial = search.record.trial(number)
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == f"{METRIC} is not a number after epoch 2"
    assert search.trackers[number].status == "FAILED"
    assert search.trackers[number].tags["trial.reason"] == trial.user_attrs["reason"]


def test_a_failure_is_recorded_and_the_search_goes_on(url: str) -> None:
    search = Search(url)
    number = search.begin()
    search.ended(number, error="train.batch_size=64: does not fit")
    assert search.record.trial(number).user_attrs["reason"].startswith("train.batch_size=64")
    assert search.begin() == number + 1
    assert search.conductor.failure is None


def test_a_trial_whose_actor_dies_is_begun_again_a_few_times(url: str) -> None:
    search = Search(url, budget={"trials": 2})
    number = search.begin()
    tracker = search.trackers[number]
    for epoch in range(1, 4):  # each time it came further
        search.conductor.died(number, "its process died")
        assert search.begin() == number
        search.evaluated(number, epoch, 0.5)
    for _ in range(3):
        search.conductor.died(number, "its process died")
        assert search.begin() == number
    assert search.trackers[number] is tracker
    assert tracker.status is None
    search.conductor.died(number, "its process died")
    assert search.begin() == number + 1
    reason = search.record.trial(number).user_attrs["reason"]
    assert reason == "its process died, 4 times in a row"
    search.conductor.died(number, "its process died")  # said again, of what is over
    assert (tracker.status, search.conductor.failure) == ("FAILED", None)


def test_a_search_is_not_over_while_a_trial_may_be_put_back(url: str) -> None:
    search = Search(url, budget={"trials": 2})
    first, second = search.begin(), search.begin()
    assert search.conductor.begin() is None
    search.ended(first, 0.2)
    assert not search.conductor.is_over
    search.conductor.died(second, "its process died")
    assert search.begin() == second
    search.ended(second, 0.1)
    assert search.conductor.begin() is None
    assert search.conductor.is_over


def test_three_failures_for_one_reason_end_the_search(url: str) -> None:
    search = Search(url, budget={"trials": 9})
    for _ in range(3):
        search.ended(search.begin(), error="data/v1.0: is not there")
    assert search.conductor.begin() is None
    assert isinstance(search.conductor.failure, ConfigError)
    assert "all for one reason: data/v1.0: is not there" in str(search.conductor.failure)


def test_failures_end_no_search_that_has_worked(url: str) -> None:
    search = Search(url, budget={"trials": 9})
    search.evaluated(search.begin(), 1, 0.5)
    for number in range(4):
        search.ended(search.begin(), error=f"batch {number} does not fit")
    assert search.conductor.failure is None
    assert search.begin() == 5


def test_reasons_that_differ_by_their_numbers_are_one(url: str) -> None:
    search = Search(url, budget={"trials": 9})
    search.ended(search.begin(), error="something else")
    for number in range(3):
        search.ended(search.begin(), error=f"worker {number}: 1.{number} GiB in use")
    assert "worker 2" in str(search.conductor.failure)


def test_an_objective_that_is_lost_at_the_end_fails_its_trial_alone(url: str) -> None:
    """A run's result leaves out what is not finite."""
    search = Search(
        url, objectives={METRIC: "min", "val/nuscenes_map": "max"}, scheduler="none",
        sampler="random",
    )  # fmt: skip
    good, bad = search.begin(), search.begin()
    both = {METRIC: 0.2, "val/nuscenes_map": 0.1}
    end = RunEnd(metrics=both, best_checkpoint="best")
    search.conductor.ended(TrialEnd(number=good, runs=[end]))
    search.ended(bad, 0.3)
    assert search.conductor.failure is None
    assert search.record.trial(good).values == [0.2, 0.1]
    reason = search.record.trial(bad).user_attrs["reason"]
    assert reason == "val/nuscenes_map is not a number at the end"


def test_a_verdict_survives_a_kill_before_the_trial_is_closed(url: str) -> None:
    search = Search(url)
    good, bad = search.begin(), search.begin()
    search.evaluated(good, 1, 0.1)
    assert search.record.is_bad(bad, 1, 0.9)
    again = Search(url, is_new=False)
    assert [again.begin(), again.begin()] == [good, bad]
    assert not again.evaluated(bad, 1, 0.9)
    assert again.record.trial(bad).state == TrialState.PRUNED


def test_what_ran_when_the_hours_were_spent_is_settled_by_the_next_call(url: str) -> None:
    search = Search(url, budget={"trials": 9, "hours": 1.0})
    number = search.begin()
    search.evaluated(number, 1, 0.5)
    search.conductor.abandon()
    search.record.study.set_user_attr("hours", 2.0)
    again = Search(url, is_new=False)
    assert again.begin() == number  # it may be through
    assert again.conductor.begin() is None
    assert not again.conductor.is_over
    assert not again.evaluated(number, 1, 0.5)
    assert again.conductor.is_over
    assert again.record.trial(number).state == TrialState.PRUNED
    assert again.trackers[number].status == "KILLED"


def test_seconds_of_all_seeds_count(url: str) -> None:
    search = Search(url, repeats=2)
    number = search.begin()
    search.evaluated(number, 1, 0.5)
    search.record._began_s[number] -= 3600
    search.evaluated(number, 1, 0.5, run=1)
    assert search.record.spent_seconds() >= 3600


def test_a_metric_that_nothing_measures_ends_the_search_with_the_nearest_name(url: str) -> None:
    search = Search(url)
    number = search.begin()
    assert not search.evaluated(number, 1, 0.0, metrics={f"{METRIC}_car": 0.5})
    assert str(search.conductor.failure) == (
        f"{METRIC}: is not measured by these runs; did you mean {METRIC}_car?"
    )
    assert search.conductor.begin() is None


def test_hours_are_those_of_all_calls_and_stop_what_runs(url: str) -> None:
    search = Search(url, budget={"trials": 9, "hours": 1.0})
    number = search.begin()
    assert search.evaluated(number, 1, 0.5)
    search.record.study.set_user_attr("hours", 0.99)
    again = Search(url, is_new=False)
    number = again.begin()
    assert again.conductor._clock.earlier_hours == 0.99
    again.conductor._clock = Clock(earlier_hours=1.0)
    assert not again.evaluated(number, 2, 0.4)
    assert again.record.trial(number).user_attrs["reason"] == (
        "the budget of 1 hours was spent after epoch 2"
    )
    assert again.conductor.begin() is None
    assert again.conductor.failure is None


def test_gpu_hours_are_those_of_the_trials(url: str) -> None:
    tree = {"data": {"root": "somewhere"}, "cluster": {"workers": 2, "gpus_per_worker": 0.5}}
    search = Search(url, tree=tree, budget={"trials": 9, "gpu_hours": 1.0})
    number = search.begin()
    assert search.evaluated(number, 1, 0.5)
    search.record._stored_seconds[number] = 3600.0
    assert not search.evaluated(number, 2, 0.4)
    assert "1 GPU-hours" in search.record.trial(number).user_attrs["reason"]


def test_what_is_interrupted_goes_on_with_the_next_call(url: str) -> None:
    search = Search(url)
    number = search.begin()
    assert search.evaluated(number, 1, 0.5)
    search.conductor.abandon()
    assert search.trackers[number].status == "KILLED"
    assert search.trackers[number].tags == {}
    assert search.record.trial(number).state == TrialState.RUNNING
    again = Search(url, is_new=False)
    assert again.begin() == number
    again.ended(number, 0.4)
    assert [trial.state for trial in again.record.own_trials()] == [TrialState.COMPLETE]
    assert again.trackers[number].identity.name == search.trackers[number].identity.name


def test_settings_that_were_tried_are_not_trained_again(url: str) -> None:
    search = Search(url, sampler="random", budget={"trials": 5})
    first = search.begin()
    search.evaluated(first, 1, 0.5, records=[record_of(3, loss=1.0)])
    search.ended(first, 0.2)
    settings = search.record.trial(first).params
    for _ in range(2):
        search.record.study.enqueue_trial(settings)
    assert search.begin() == first + 3
    for number in (first + 1, first + 2):
        trial, tracker = search.record.trial(number), search.trackers[number]
        assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.2)
        assert trial.user_attrs["reason"] == tracker.tags["trial.reason"]
        assert tracker.tags == {
            "trial.state": "tried before",
            "trial.reason": f"has the settings of trial {first}",
        }
        assert tracker.metrics == {f"objective/{METRIC}": 0.2}
        assert tracker.status == "FINISHED"
    assert search.display.lines[-2:] == [f"ended {first + 2} tried before", f"began {first + 3}"]


def test_what_mlflow_was_not_there_to_hear_it_is_told_later(url: str) -> None:
    search = Search(url)
    search.trackers_hear = False
    finished, failed, stopped = search.begin(), search.begin(), search.begin()
    search.ended(finished, 0.2)
    search.ended(failed, error="it broke")
    search.record.note_owed(stopped, is_owed=True)  # killed before the database knew
    search.conductor.abandon()
    assert search.record.owed == [finished, failed, stopped]
    again = Search(url, is_new=False)
    again.parent.run_id = None  # it is still away
    again.conductor.settle()
    assert again.trackers == {}
    assert "MLflow has not heard the end of 3 trials" in again.display.lines[-1]
    again.parent.run_id = "parent"
    again.conductor.settle()
    assert {n: (t.status, t.tags) for n, t in again.trackers.items()} == {
        finished: ("FINISHED", {"trial.state": "finished", "trial.reason": ""}),
        failed: ("FAILED", {"trial.state": "failed", "trial.reason": "it broke"}),
    }
    assert again.trackers[finished].metrics == {f"objective/{METRIC}": 0.2}
    mine, theirs = again.trackers[finished].identity, search.trackers[finished].identity
    assert (mine.name, mine.params, mine.tags) == (theirs.name, theirs.params, theirs.tags)
    assert again.record.owed == []


def test_an_end_that_is_told_at_last_is_owed_no_more(url: str) -> None:
    """Stopped for its hours by a call that was killed at that, finished by the next."""
    search = Search(url)
    number = search.begin()
    search.record.note_owed(number, is_owed=True)
    search.ended(number, 0.2)
    assert search.record.owed == []


def test_a_trial_of_a_server_that_is_ill_stays_owed(url: str) -> None:
    search = Search(url)
    number = search.begin()
    search.trackers[number].server_is_there = False
    search.ended(number, 0.2)
    search.trackers_hear = False
    search.conductor.settle()
    assert search.record.owed == [number]


def test_a_store_that_is_away_ends_the_search_and_no_trial(url: str) -> None:
    search = Search(url)
    number = search.begin()
    search.evaluated(number, 1, 0.5)
    search.conductor.ended(TrialEnd(number=number, error="s3://b: away", is_stores_fault=True))
    assert search.conductor.begin() is None
    assert str(search.conductor.failure) == "s3://b: away; --resume search goes on"
    search.conductor.abandon()
    assert search.record.trial(number).state == TrialState.RUNNING
    again = Search(url, is_new=False)
    assert again.begin() == number
