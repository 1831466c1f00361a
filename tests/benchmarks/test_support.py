"""What benchmarks say can be believed: rows, ratios, intervals, and which of them there are."""

import importlib
import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import names
from benchmarks.support.measure import Stopwatch, compare, cpu_seconds, interval
from benchmarks.support.rows import Row, publish


@pytest.mark.parametrize(
    ("ratio", "target", "spread", "holds"),
    [
        (1.4, 1.5, None, True),
        (1.5, 1.5, None, True),
        (1.6, 1.5, None, False),
        (1.6, 1.5, (1.45, 1.7), True),  # noise reaches the target
        (1.6, 1.5, (1.55, 1.7), False),
        (99.0, None, None, True),
    ],
)
def test_a_row_misses_its_target_only_where_its_interval_does(
    ratio: float, target: float | None, spread: tuple[float, float] | None, holds: bool
) -> None:
    assert Row(name="x", ratio=ratio, target=target, interval=spread).holds is holds


def test_rows_are_written_with_their_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Row(name="kept", ratio=1.23456, target=1.5, interval=(1.2, 1.3), detail="2 ms")
    missed = Row(name="missed", ratio=2, target=1.5)
    assert publish("some", [kept], tmp_path) == 0
    assert publish("some", [kept, missed, Row(name="told", ratio=3)], tmp_path) == 1
    entries = json.loads((tmp_path / "some.json").read_text())
    assert [(e["name"], e["ratio"], e["target"], e["holds"]) for e in entries] == [
        ("kept", 1.235, 1.5, True),
        ("missed", 2, 1.5, False),
        ("told", 3, None, True),
    ]
    said = capsys.readouterr().out
    assert "MISSED  missed" in said
    assert "holds   kept: 2 ms" in said


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_comparison_is_of_cpu_time_and_waiting_does_not_count() -> None:
    def work(seconds: float) -> None:
        spin(2 * seconds)
        time.sleep(seconds)

    found = compare(work, spin, [0.004, 0.006], rounds=5)
    assert found.ratio == pytest.approx(2, rel=0.1)
    assert found.interval[0] <= found.ratio <= found.interval[1]
    assert found.peer_s == pytest.approx(0.01, rel=0.2)


def test_an_interval_holds_the_mean_of_19_in_20() -> None:
    random = np.random.default_rng(1)
    holds = 0
    for _ in range(40):
        low, high = interval(np.mean, random.normal(3.0, 1.0, size=30))
        holds += low <= 3.0 <= high
    assert holds >= 34


def test_a_stopwatch_adds_up_calls_also_those_that_fail() -> None:
    watch = Stopwatch()

    def fail() -> None:
        spin(0.005)
        raise KeyError

    watch.around(spin)(0.005)
    with pytest.raises(KeyError):
        watch.around(fail)()
    assert watch.seconds == pytest.approx(0.01, rel=0.2)
    assert cpu_seconds(spin, 0.005) == pytest.approx(0.005, rel=0.2)


@pytest.mark.parametrize("name", names())
def test_each_benchmark_says_what_it_asks_and_how_to_ask_it(name: str) -> None:
    benchmark = importlib.import_module(f"benchmarks.{name}")
    assert callable(benchmark.main)
    question, command, *_ = benchmark.__doc__.split("\n\n")
    assert question.endswith("?")
    assert command.strip() == f".venv/bin/python -m benchmarks.{name}"
