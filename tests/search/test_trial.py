"""The thread that launches a trial's runs, with a launch that needs no Ray."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mono3d.errors import ConfigError, StorageError
from mono3d.search.trial import RunEnd, TrialEnd, TrialOrder, TrialReport, _Work
from mono3d.tracking.records import MetricRecord
from mono3d.training.mailbox import Question
from mono3d.training.progress import Progress
from mono3d.training.run_record import RunResult
from tests.support.searches import METRIC, TREE

EPOCHS = 3


class Runs:
    """In place of Ray: each run is evaluated after each epoch, as long as the answer is yes."""

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.answers: list[bool] = []
        self.error: Exception | None = None
        self.asks_again = False

    def launch(
        self, config: Any, *, name: str, sink: Any, judge: Callable[[Question], bool]
    ) -> RunResult:
        self.launched.append(name)
        sink.say(f"{name} begins")
        for epoch in range(1, EPOCHS):
            record = MetricRecord(step=epoch, time_ms=epoch, metrics={"loss": 1.0 / epoch})
            sink.update(Progress(step=epoch, total_steps=EPOCHS, epoch=epoch, record=record))
            question = Question(step=epoch, epoch=epoch, metrics={METRIC: 0.5 / epoch})
            self.answers.append(judge(question))
            if self.asks_again:  # as a worker that died before it heard
                self.answers.append(judge(question))
            if not self.answers[-1]:
                break
        if self.error is not None:
            raise self.error
        return RunResult(
            name=name, steps=EPOCHS, metrics={METRIC: 0.1}, best_checkpoint=f"{name}/best",
            last_checkpoint=f"{name}/last",
        )  # fmt: skip


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs()
    monkeypatch.setattr("mono3d.training.launch.launch", runs.launch)
    return runs


def work_of(*names: str, storage: str | None = None) -> _Work:
    tree: Mapping[str, Any] = {**TREE, "cluster": {"storage": storage}}
    work = _Work(TrialOrder(number=7, runs=[(name, tree) for name in names], directory="."))
    work.start()
    return work


def test_all_runs_of_a_trial_are_reported_and_end_together(runs: Runs) -> None:
    work = work_of("a", "b")
    messages = [work.next_message() for _ in range(5)]
    reports, end = messages[:4], messages[4]
    assert [(r.run, r.epoch) for r in reports if isinstance(r, TrialReport)] == [
        (0, 1), (0, 2), (1, 1), (1, 2),
    ]  # fmt: skip
    for report in reports:
        assert isinstance(report, TrialReport)
        assert [record.step for record in report.records] == [report.epoch]
        assert report.metrics == {METRIC: 0.5 / report.epoch}
    assert isinstance(reports[2], TrialReport)
    assert reports[2].lines == ["b begins"]
    assert isinstance(end, TrialEnd)
    assert end.error is None
    assert end.runs == [
        RunEnd(metrics={METRIC: 0.1}, best_checkpoint=f"{name}/best", records=[]) for name in "ab"
    ]
    assert runs.answers == [True] * 4
    assert work.end()


@pytest.mark.parametrize("asks_again", [False, True])
def test_a_trial_that_is_stopped_begins_no_further_run(runs: Runs, asks_again: bool) -> None:
    runs.asks_again = asks_again
    work = work_of("a", "b")
    work.next_message()
    assert work.end()
    work.join(10)
    assert not work.is_alive()
    assert runs.launched == ["a"]
    assert not any(runs.answers)  # a question that is asked again has the same answer


def test_a_trial_between_evaluations_cannot_be_told(runs: Runs) -> None:
    work = work_of("a")
    for _ in range(EPOCHS):
        last = work.next_message()
    assert isinstance(last, TrialEnd)
    work.join(10)
    assert work.end()
    busy = _Work(TrialOrder(number=8, runs=[("a", TREE)], directory="."))
    busy.is_alive = lambda: True  # type: ignore[method-assign]
    assert not busy.end()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("train.batch_size=64: does not fit"), "train.batch_size=64: does not"),
        (ZeroDivisionError("by zero\nand more"), "ZeroDivisionError: by zero"),
        (KeyError(), "KeyError"),
    ],
)
def test_what_ends_a_trial_badly_is_one_line(runs: Runs, error: Exception, said: str) -> None:
    runs.error = error
    work = work_of("a", "b")
    for _ in range(EPOCHS):
        end = work.next_message()
    assert isinstance(end, TrialEnd)
    assert end.error is not None
    assert end.error.startswith(said)
    assert "\n" not in end.error
    assert not end.is_stores_fault
    assert runs.launched == ["a"]


def test_a_store_is_at_fault_where_it_does_not_answer(runs: Runs, tmp_path: Path) -> None:
    """A teacher's bucket may be gone, or one file be damaged, while the runs' own store is well."""
    runs.error = StorageError("s3://teachers/one: no such bucket")
    (tmp_path / "file").touch()
    ends = []
    for storage in (tmp_path, tmp_path / "file"):
        work = work_of("a", storage=str(storage))
        for _ in range(EPOCHS):
            end = work.next_message()
        assert isinstance(end, TrialEnd)
        ends.append((end.error, end.is_stores_fault))
    assert ends == [(str(runs.error), False), (str(runs.error), True)]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
