"""A study's results in a file: what still holds, what is tried again, what survives."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mono3d.errors import ConfigError, DataError
from mono3d.search.study_record import CellResult, StudyRecord, cell_fingerprint
from tests.support.training import tiny_config

DATA = {"train": "a", "val": "b"}


def result(variant: str = "gmm", seed: int = 0, **fields: object) -> CellResult:
    return CellResult(variant=variant, seed=seed, fingerprint="f", **fields)  # type: ignore[arg-type]


def test_results_are_there_again_with_what_is_known_of_the_study(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    record = StudyRecord(path)
    record.describe(recipe="demo")
    record.add(result(metrics={"val/nuscenes_map": 0.123456789}, steps=7))
    again = StudyRecord(path).find("gmm", 0, "f")
    assert again is not None
    assert (again.metrics, again.steps) == ({"val/nuscenes_map": 0.123457}, 7)
    assert json.loads(path.read_text())["recipe"] == "demo"


def test_a_result_of_another_config_or_a_failed_run_does_not_hold(tmp_path: Path) -> None:
    record = StudyRecord(tmp_path / "results.json")
    record.add(result())
    record.add(result(seed=1, error="out of memory"))
    assert record.find("gmm", 0, "other") is None
    assert record.find("gmm", 1, "f") is None
    assert record.find("gmm", 2, "f") is None
    assert [r.error for r in record.results([("gmm", 1), ("gmm", 0), ("gmm", 9)])] == [
        "out of memory",
        None,
    ]


def test_metrics_that_are_not_finite_leave_valid_json(tmp_path: Path) -> None:
    record = StudyRecord(tmp_path / "results.json")
    record.describe(comparison=[math.inf, math.nan])
    text = record.path.read_text()
    assert json.loads(text, parse_constant=pytest.fail)["comparison"] == [None, None]


def test_threads_lose_nothing(tmp_path: Path) -> None:
    record = StudyRecord(tmp_path / "results.json")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: record.add(result(seed=seed)), range(40)))
    again = StudyRecord(record.path)
    assert len(again.results([("gmm", seed) for seed in range(40)])) == 40
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"cells": [{"variant": 1}]}', '{"runs": []}'])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"results.json: is not a study's results"):
        StudyRecord(path)
    assert path.read_text() == text


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/results.json: cannot be written"):
        StudyRecord(tmp_path / "file" / "results.json").describe()


@pytest.mark.parametrize(
    "change",
    [
        {"cluster__storage": "s3://elsewhere"},
        {"data__root": "/elsewhere"},
        {"checkpoint__keep": 7},
        {"tracking__experiment": "other"},
        {"evaluation__batch_size": 3},
    ],
)
def test_where_and_how_a_run_works_does_not_make_it_another(change: dict[str, object]) -> None:
    assert cell_fingerprint(tiny_config(**change), DATA) == cell_fingerprint(tiny_config(), DATA)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"mining__sharpness": 3.0}, {"train__batch_size": 3}, {"cluster__workers": 2}],
)
def test_what_it_computes_does(change: dict[str, object]) -> None:
    assert cell_fingerprint(tiny_config(**change), DATA) != cell_fingerprint(tiny_config(), DATA)


def test_other_data_make_another_run() -> None:
    config = tiny_config()
    assert cell_fingerprint(config, DATA) != cell_fingerprint(config, {**DATA, "val": "c"})
