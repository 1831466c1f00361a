"""The runs of a study: side by side, each once, whatever happens to one of them."""

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from mono3d.errors import DataError
from mono3d.search.study import RunCell, differences, run_cells, weaknesses
from mono3d.search.study_record import CellResult, StudyRecord
from mono3d.search.variants import Cell, StudySpec
from mono3d.training.progress import Progress, ProgressSink
from mono3d.training.run_record import RunResult
from tests.support.training import tiny_config

ERROR = "val/centers_depth_abs_rel"
SPEC = StudySpec.model_validate(
    {"baseline": "none", "least": {"val/nuscenes_car_ap": 0.2}, "variants": {"none": {}, "gmm": {}}}
)
CELLS = [
    Cell(variant=variant, seed=seed, config=tiny_config(seed=seed))
    for seed in range(3)
    for variant in ("none", "gmm")
]


class Watcher:
    def __init__(self) -> None:
        self.ended: list[tuple[str, bool]] = []
        self.lines: list[str] = []
        self.steps: Counter[str] = Counter()

    def cell(self, cell: Cell, progress: Progress) -> None:
        self.steps[cell.label] += 1

    def done(self, cell: Cell, result: CellResult, *, is_new: bool) -> None:
        self.ended.append((cell.label, is_new))

    def say(self, line: str) -> None:
        self.lines.append(line)


def answer(cell: Cell, value: float = 0.1) -> RunResult:
    metrics = {ERROR: value + 0.01 * cell.seed, "val/loss": 1.0}
    return RunResult(
        name=cell.label, steps=3, metrics=metrics, best_checkpoint="best", last_checkpoint="last"
    )


def work(
    record: StudyRecord, run: RunCell, *, parallel: int = 2, watcher: Watcher | None = None
) -> list[CellResult]:
    return run_cells(
        CELLS,
        record,
        run,
        parallel=parallel,
        display=watcher or Watcher(),
        fingerprint_of=lambda cell: cell.label,
    )


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    return StudyRecord(tmp_path / "results.json")


def test_every_run_is_done_once_and_written_down(record: StudyRecord) -> None:
    done: Counter[str] = Counter()

    def run(cell: Cell, sink: ProgressSink) -> RunResult:
        done[cell.label] += 1
        return answer(cell)

    results = work(record, run)
    assert [f"{r.variant}-seed{r.seed}" for r in results] == [cell.label for cell in CELLS]
    assert set(done.values()) == {1}
    assert len(done) == len(CELLS)
    # The run's name for it, and only what a study compares.
    assert results[2].metrics == {ERROR: pytest.approx(0.11)}
    assert StudyRecord(record.path).results([("gmm", 2)])[0].checkpoint == "best"


def test_runs_are_side_by_side_as_many_as_wanted(record: StudyRecord) -> None:
    meet = threading.Barrier(3, timeout=10)
    at_work, most = 0, 0
    lock = threading.Lock()

    def run(cell: Cell, sink: ProgressSink) -> RunResult:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        meet.wait()
        with lock:
            at_work -= 1
        return answer(cell)

    work(record, run, parallel=3)
    assert most == 3


def test_what_is_known_is_not_run_again(record: StudyRecord) -> None:
    work(record, lambda cell, sink: answer(cell))
    watcher = Watcher()

    def run(cell: Cell, sink: ProgressSink) -> RunResult:
        pytest.fail("ran again")

    results = work(StudyRecord(record.path), run, watcher=watcher)
    assert len(results) == len(CELLS)
    assert watcher.ended == [(cell.label, False) for cell in CELLS]


def test_a_run_that_fails_is_recorded_and_tried_the_next_time(record: StudyRecord) -> None:
    def run(cell: Cell, sink: ProgressSink) -> RunResult:
        if cell.label == "gmm-seed1":
            raise DataError("frame 7: image is broken")
        if cell.label == "none-seed2":
            raise ZeroDivisionError("division by zero")
        return answer(cell)

    first = work(record, run)
    reasons = {f"{r.variant}-seed{r.seed}": r.error for r in first if r.error}
    assert reasons == {
        "gmm-seed1": "frame 7: image is broken",
        "none-seed2": "ZeroDivisionError: division by zero",
    }
    assert [row.seeds for row in differences(SPEC, first)["gmm"]] == [[0]]
    second = work(record, lambda cell, sink: answer(cell))
    assert [r.error for r in second] == [None] * len(CELLS)


def test_an_interruption_ends_runs_at_their_next_sign_of_life(
    record: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Barrier(3, timeout=10), []
    real_sleep = time.sleep

    def run(cell: Cell, sink: ProgressSink) -> RunResult:
        if cell.label == "none-seed0":
            return answer(cell)
        begun.wait()
        try:
            while True:
                real_sleep(0.01)
                sink.update(Progress(step=1, total_steps=2, epoch=0))
        finally:
            ended.append(cell.label)

    def interrupted(seconds: float) -> None:
        begun.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr("mono3d.search.study.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        work(record, run)
    assert sorted(ended) == ["gmm-seed0", "none-seed1"]
    # What was given up is no failure: it goes on the next time.
    found = record.results([(cell.variant, cell.seed) for cell in CELLS])
    assert [(r.variant, r.seed, r.error) for r in found] == [("none", 0, None)]


def test_results_that_cannot_be_written_end_the_study(record: StudyRecord) -> None:
    record.path.mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        work(record, lambda cell, sink: answer(cell))


def test_lines_of_a_run_name_it(record: StudyRecord) -> None:
    def run(cell: Cell, sink: ProgressSink) -> RunResult:
        sink.say("resumed at step 3")
        return answer(cell)

    watcher = Watcher()
    work(record, run, watcher=watcher)
    assert "gmm-seed1: resumed at step 3" in watcher.lines


def test_a_baseline_that_does_not_work_is_said() -> None:
    def results(ap: float) -> list[CellResult]:
        metrics = {ERROR: 0.1, "val/nuscenes_car_ap": ap}
        return [
            CellResult(variant="none", seed=seed, fingerprint="f", metrics=metrics)
            for seed in (0, 1)
        ]

    assert weaknesses(SPEC, results(0.21)) == []
    assert weaknesses(SPEC, results(0.12)) == ["none reaches val/nuscenes_car_ap 0.120, not 0.2"]
