"""The runs of a study: side by side, each once, whatever happens to one of them."""

import json
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mono3d.comparison.study import (
    Planned,
    RunCell,
    differences,
    known_results,
    run_cells,
    weaknesses,
)
from mono3d.comparison.study_record import CellResult, Identity, StudyRecord
from mono3d.comparison.variants import Cell, StudySpec
from mono3d.errors import ConfigError, DataError
from mono3d.training.progress import Progress, ProgressSink
from mono3d.training.run_record import RunResult
from tests.support.training import tiny_config

ERROR = "val/centers_depth_abs_rel"
SPEC = StudySpec.model_validate(
    {"baseline": "none", "least": {"val/nuscenes_car_ap": 0.2}, "variants": {"none": {}, "gmm": {}}}
)
CELLS = [
    Cell(variant=variant, seed=seed, config=tiny_config(seed=seed, mining__kind=variant))
    for seed in range(3)
    for variant in ("none", "gmm")
]
PLANNED = [
    Planned(cell=cell, identity=Identity(config=cell.config, data={"val": "b"})) for cell in CELLS
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


def answer(plan: Planned, value: float = 0.1) -> RunResult:
    metrics = {ERROR: value + 0.01 * plan.cell.seed, "val/loss": 1.0}
    return RunResult(
        name="run", steps=3, metrics=metrics, best_checkpoint="best", last_checkpoint="last"
    )


def work(
    record: StudyRecord, run: RunCell, *, parallel: int = 2, watcher: Watcher | None = None
) -> list[CellResult]:
    return run_cells(PLANNED, SPEC, record, run, parallel=parallel, display=watcher or Watcher())


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    return StudyRecord(tmp_path / "results.json")


def test_every_run_is_done_once_and_written_down(record: StudyRecord) -> None:
    done: Counter[str] = Counter()

    def run(plan: Planned, sink: ProgressSink) -> RunResult:
        done[plan.cell.label] += 1
        return answer(plan)

    results = work(record, run)
    assert [f"{r.variant}-seed{r.seed}" for r in results] == [cell.label for cell in CELLS]
    assert set(done.values()) == {1}
    assert len(done) == len(CELLS)
    # The run's name for it, and only what a study compares.
    assert results[2].metrics == {ERROR: pytest.approx(0.11)}
    last = StudyRecord(record.path).find("gmm", 2, CELLS[-1].config, {"val": "b"})
    assert last is not None
    assert last.checkpoint == "last"  # of the evaluation that the metrics are of


def test_runs_are_side_by_side_as_many_as_wanted(record: StudyRecord) -> None:
    meet = threading.Barrier(3, timeout=10)
    at_work, most = 0, 0
    lock = threading.Lock()

    def run(plan: Planned, sink: ProgressSink) -> RunResult:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        meet.wait()
        with lock:
            at_work -= 1
        return answer(plan)

    work(record, run, parallel=3)
    assert most == 3


def test_what_is_known_is_not_run_again(record: StudyRecord) -> None:
    work(record, lambda plan, sink: answer(plan))
    watcher = Watcher()

    def run(plan: Planned, sink: ProgressSink) -> RunResult:
        pytest.fail("ran again")

    results = work(StudyRecord(record.path), run, watcher=watcher)
    assert len(results) == len(CELLS)
    assert watcher.ended == [(cell.label, False) for cell in CELLS]


def test_a_run_that_fails_is_recorded_and_tried_the_next_time(record: StudyRecord) -> None:
    def run(plan: Planned, sink: ProgressSink) -> RunResult:
        if plan.cell.label == "gmm-seed1":
            raise DataError("frame 7: image is broken")
        if plan.cell.label == "none-seed2":
            raise ZeroDivisionError("division by zero")
        return answer(plan)

    first = work(record, run)
    reasons = {f"{r.variant}-seed{r.seed}": r.error for r in first if r.error}
    assert reasons == {
        "gmm-seed1": "frame 7: image is broken",
        "none-seed2": "ZeroDivisionError: division by zero",
    }
    assert [row.seeds for row in differences(SPEC, first)["gmm"]] == [[0]]
    second = work(record, lambda plan, sink: answer(plan))
    assert [r.error for r in second] == [None] * len(CELLS)


def test_an_interruption_ends_runs_at_their_next_sign_of_life(
    record: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Barrier(3, timeout=10), []
    real_sleep = time.sleep

    def run(plan: Planned, sink: ProgressSink) -> RunResult:
        if plan.cell.label == "none-seed0":
            return answer(plan)
        begun.wait()
        try:
            while True:
                real_sleep(0.01)
                sink.update(Progress(step=1, total_steps=2, epoch=0))
        finally:
            ended.append(plan.cell.label)

    def interrupted(seconds: float) -> None:
        begun.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr("mono3d.comparison.study.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        work(record, run)
    assert sorted(ended) == ["gmm-seed0", "none-seed1"]
    # What was given up is no failure: it goes on the next time.
    cells = json.loads(record.path.read_text())["cells"]
    assert [(c["variant"], c["seed"], c["error"]) for c in cells] == [("none", 0, None)]


def test_results_that_cannot_be_written_end_the_study(record: StudyRecord) -> None:
    record.path.mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        work(record, lambda plan, sink: answer(plan))


def test_lines_of_a_run_name_it(record: StudyRecord) -> None:
    def run(plan: Planned, sink: ProgressSink) -> RunResult:
        sink.say("resumed at step 3")
        return answer(plan)

    watcher = Watcher()
    work(record, run, watcher=watcher)
    assert "gmm-seed1: resumed at step 3" in watcher.lines


def test_a_declared_metric_that_is_not_measured_ends_the_study_at_once(
    record: StudyRecord,
) -> None:
    spec = SPEC.model_copy(update={"metric": "val/centers_depth_abs_rell"})
    done: Counter[str] = Counter()

    def run(plan: Planned, sink: ProgressSink) -> RunResult:
        done[plan.cell.label] += 1
        return answer(plan)

    with pytest.raises(ConfigError, match=r"abs_rell: is not measured .* mean val/centers_depth_a"):
        run_cells(PLANNED, spec, record, run, parallel=1, display=Watcher())
    assert sum(done.values()) == 1


def test_one_run_without_the_declared_metric_does_not_end_the_study(record: StudyRecord) -> None:
    def run(plan: Planned, sink: ProgressSink) -> RunResult:
        is_lost = plan.cell.label == "gmm-seed1"  # it was not finite there
        return replace(answer(plan), metrics={"val/nuscenes_map": 0.1}) if is_lost else answer(plan)

    results = work(record, run, parallel=1)
    assert [ERROR in found.metrics for found in results] == [True, True, True, False, True, True]


def test_results_that_lack_the_declared_metric_are_named_with_their_file(
    record: StudyRecord,
) -> None:
    work(record, lambda plan, sink: answer(plan))
    spec = SPEC.model_copy(update={"metric": "val/loss"})
    with pytest.raises(ConfigError, match=r"val/loss: is not measured by the runs in .*results.js"):
        run_cells(
            PLANNED, spec, record, lambda p, s: pytest.fail("run"), parallel=1, display=Watcher()
        )


def test_results_on_several_data_sets_are_not_reported_together(record: StudyRecord) -> None:
    work(record, lambda plan, sink: answer(plan))
    assert len(known_results(CELLS, record)) == len(CELLS)
    other = Planned(cell=CELLS[0], identity=Identity(config=CELLS[0].config, data={"val": "c"}))
    run_cells([other], SPEC, record, lambda p, s: answer(p), parallel=1, display=Watcher())
    with pytest.raises(ConfigError, match=r"results.json: has these runs on several data sets"):
        known_results(CELLS, record)


def test_variants_may_learn_from_other_data_if_they_say_so(record: StudyRecord) -> None:
    """Frames that one variant has beyond another's are its point; what measures is one for all."""
    more = [
        replace(cell, config=cell.config.model_copy(
            update={"data": cell.config.data.model_copy(update={"train_split": "train_track"})}
        ))
        if cell.variant == CELLS[-1].variant else cell
        for cell in CELLS
    ]  # fmt: skip

    def planned(train: str, val: str = "v") -> list[Planned]:
        datas = [
            {"train": train if c.variant == CELLS[-1].variant else "a", "val": val} for c in more
        ]
        return [
            Planned(cell=cell, identity=Identity(config=cell.config, data=data))
            for cell, data in zip(more, datas, strict=True)
        ]

    def run(plans: list[Planned]) -> None:
        run_cells(plans, SPEC, record, lambda p, s: answer(p), parallel=1, display=Watcher())

    run(planned("b"))
    assert len(known_results(more, record)) == len(CELLS)
    run(planned("c")[-1:])
    with pytest.raises(ConfigError, match="has these runs on several data sets"):
        known_results(more, record)


def test_a_variant_taught_by_several_teachers_is_not_reported(record: StudyRecord) -> None:
    """Variants may have teachers of their own, or none; the runs of one share theirs."""
    first, *others = PLANNED

    def taught(plan: Planned, by: str) -> Planned:
        data = {**plan.identity.data, "teacher": by}
        return Planned(cell=plan.cell, identity=Identity(config=plan.cell.config, data=data))

    same = [other for other in others if other.cell.variant == first.cell.variant]
    run_all = partial(
        run_cells, spec=SPEC, record=record, run=lambda p, s: answer(p), parallel=1,
        display=Watcher(),
    )  # fmt: skip
    run_all([taught(first, "a"), *(o for o in others if o not in same)])
    assert len(known_results(CELLS, record)) == len(CELLS) - len(same)
    run_all([taught(same[0], "b")])
    with pytest.raises(ConfigError, match=rf"runs of {first.cell.variant} with several teachers"):
        known_results(CELLS, record)


def test_a_declared_metric_outside_the_usual_ones_is_kept(record: StudyRecord) -> None:
    spec = SPEC.model_copy(update={"metric": "val/loss"})
    results = run_cells(
        PLANNED, spec, record, lambda plan, sink: answer(plan), parallel=1, display=Watcher()
    )
    assert all(set(result.metrics) == {ERROR, "val/loss"} for result in results)


def results_of(**metrics: float) -> list[CellResult]:
    return [
        CellResult(
            variant=variant,
            seed=seed,
            identity="i",
            metrics={f"val/{name}": value * (1.0 + 0.01 * seed) for name, value in metrics.items()},
        )
        for variant in ("none", "gmm")
        for seed in (0, 1)
    ]


def test_a_baseline_that_does_not_work_is_said_and_nothing_is_judged() -> None:
    assert weaknesses(SPEC, results_of(nuscenes_car_ap=0.21)) == []
    weak = results_of(nuscenes_car_ap=0.12)
    assert weaknesses(SPEC, weak) == ["none reaches val/nuscenes_car_ap 0.121, not 0.2"]
    unknown = results_of(nuscenes_map=0.12)
    assert weaknesses(SPEC, unknown) == ["none was not measured by val/nuscenes_car_ap"]
    better = [
        replace(cell, metrics={k: v + 0.3 + 0.01 * cell.seed for k, v in cell.metrics.items()})
        if cell.variant == "gmm"
        else cell
        for cell in weak
    ]
    assert [row.verdict for row in differences(SPEC, better)["gmm"]] == ["open"]
