from pathlib import Path

import pytest
import torch

from mono3d.tracking.records import MetricRecord
from mono3d.tracking.spool import Spool
from mono3d.training.loop import RunObserver
from mono3d.training.parts import Place
from mono3d.training.progress import Progress
from mono3d.training.recorder import RunRecorder
from mono3d.training.state import TrainState
from tests.support.training import tiny_config, tiny_parts


@pytest.fixture(scope="module")
def state() -> TrainState:
    state = tiny_parts(tiny_config(), Place(device=torch.device("cpu"))).state
    state.step, state.epoch = 7, 1
    return state


class Seen:
    """What was shown and kept, and what the spool held at that moment."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool(path)
        self.shown: list[Progress] = []
        self.on_disk: list[int] = []
        self.kept: list[dict[str, float]] = []
        self.recorder = RunRecorder(
            self.spool, total_steps=20, emit=self._show, keep=lambda _, m: self.kept.append({**m})
        )

    def _show(self, progress: Progress) -> None:
        self.shown.append(progress)
        self.on_disk.append(len(self.spool.read()))


def test_a_record_is_on_disk_before_it_is_shown(state: TrainState, tmp_path: Path) -> None:
    seen = Seen(tmp_path / "metrics.jsonl")
    assert isinstance(seen.recorder, RunObserver)
    record = MetricRecord(step=7, time_ms=1, metrics={"loss/total": 2.0})
    seen.recorder.on_records(state, record)
    assert seen.shown == [Progress(step=7, total_steps=20, epoch=1, record=record)]
    assert seen.on_disk == [1]


def test_an_evaluation_is_recorded_and_kept(state: TrainState, tmp_path: Path) -> None:
    seen = Seen(tmp_path / "metrics.jsonl")
    seen.recorder.on_evaluate(state)
    seen.recorder.on_save(state, {"val/score": 0.5}, epoch_ended=True)
    assert [progress.record is None for progress in seen.shown] == [True, False]
    (record,) = seen.spool.read()
    assert (record.step, record.metrics) == (7, {"val/score": 0.5})
    assert seen.kept == [{"val/score": 0.5}]


def test_a_save_in_mid_epoch_records_nothing(state: TrainState, tmp_path: Path) -> None:
    seen = Seen(tmp_path / "metrics.jsonl")
    seen.recorder.on_save(state, {}, epoch_ended=False)
    assert seen.shown == []
    assert seen.kept == [{}]


def test_replay_shows_what_an_earlier_process_recorded(state: TrainState, tmp_path: Path) -> None:
    records = [MetricRecord(step=s, time_ms=s, metrics={"loss/total": s / 2}) for s in (2, 4)]
    Spool(tmp_path / "metrics.jsonl").append(records)
    seen = Seen(tmp_path / "metrics.jsonl")
    seen.recorder.replay(state)
    assert [progress.record for progress in seen.shown] == records
    assert len(seen.spool.read()) == 2
