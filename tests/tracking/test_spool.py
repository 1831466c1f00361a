import json
import logging
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mono3d.tracking.records import MetricRecord
from mono3d.tracking.spool import Spool


def record(step: int, **metrics: float) -> MetricRecord:
    return MetricRecord(step=step, time_ms=1_700_000_000_000 + step, metrics=metrics)


def test_records_come_back_exactly_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "deep" / "metrics.jsonl")
    first, second = record(1, loss=0.1 + 0.2), record(2, loss=1e-300, lr=3e-4)
    spool.append([first])
    spool.append([second])

    assert Spool(tmp_path / "deep" / "metrics.jsonl").read() == [first, second]


def test_non_finite_values_survive(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "metrics.jsonl")
    spool.append([record(1, nan=math.nan, inf=-math.inf)])

    (only,) = spool.read()
    assert math.isnan(only.metrics["nan"])
    assert only.metrics["inf"] == -math.inf


def test_reading_starts_at_the_given_step(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "metrics.jsonl")
    spool.append([record(step, loss=1.0) for step in (10, 20, 30)])

    assert [r.step for r in spool.read(from_step=20)] == [20, 30]


def test_compacting_forgets_earlier_steps_and_appending_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "metrics.jsonl")
    spool.append([record(step, loss=1.0) for step in (10, 20, 30)])
    spool.compact(from_step=30)
    spool.append([record(40, loss=1.0)])

    assert [r.step for r in spool.read()] == [30, 40]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_cleared_spool_is_empty(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "metrics.jsonl")
    spool.append([record(1, loss=1.0)])
    spool.clear()

    assert spool.read() == []


@pytest.mark.parametrize("kept_bytes", [1, 20, -1])
def test_line_cut_off_by_a_kill_is_dropped_and_appending_goes_on(
    tmp_path: Path, kept_bytes: int
) -> None:
    path = tmp_path / "metrics.jsonl"
    Spool(path).append([record(1, loss=1.0), record(2, loss=2.0)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:kept_bytes])

    spool = Spool(path)
    spool.append([record(3, loss=3.0)])

    assert [r.step for r in spool.read()] == [1, 3]


def test_damaged_line_is_said_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    spool = Spool(path)
    spool.append([record(1, loss=1.0)])
    with path.open("ab") as file:
        file.write(b"\x00\x00\xff garbage\n" + json.dumps({"step": 2}).encode() + b"\n")
    spool.append([record(3, loss=3.0)])

    with caplog.at_level(logging.WARNING):
        assert [r.step for r in spool.read()] == [1, 3]
    assert len(caplog.records) == 2


def test_records_outlive_a_killed_writer(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mono3d.tracking.spool import Spool\n"
        "from mono3d.tracking.tracker import MetricRecord\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "for step in range(5):\n"
        "    spool.append([MetricRecord(step=step, time_ms=step, metrics={'loss': 1.0})])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)

    assert done.returncode == -signal.SIGKILL
    assert [r.step for r in Spool(path).read()] == [0, 1, 2, 3, 4]
