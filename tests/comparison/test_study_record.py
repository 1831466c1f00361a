"""A study's results in a file: what still holds, what is tried again, what survives."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mono3d.comparison.study_record import CellResult, Identity, StudyRecord
from mono3d.config.load import flatten
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError, DataError
from tests.support.training import tiny_config

DATA = {"train": "a", "val": "b"}


def identity(config: RunConfig | None = None, data: Mapping[str, str] = DATA) -> Identity:
    return Identity(config=config or tiny_config(), data=data)


def result(variant: str = "gmm", seed: int = 0, **fields: object) -> CellResult:
    return CellResult(variant=variant, seed=seed, identity=identity().digest, **fields)  # type: ignore[arg-type]


def add(record: StudyRecord, found: CellResult, known: Identity | None = None) -> None:
    known = known or identity()
    record.add(replace(found, identity=known.digest), known)


def test_results_are_there_again_with_what_is_known_of_the_study(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    record = StudyRecord(path)
    record.describe(recipe="demo", variants={"none": 1})
    add(record, result(metrics={"val/nuscenes_map": 0.123456789}, steps=7))
    record = StudyRecord(path)
    again = record.find("gmm", 0, tiny_config(), DATA)
    assert again is not None
    assert (again.metrics, again.steps) == ({"val/nuscenes_map": 0.123457}, 7)
    # Variants that come later stand beside those that were there.
    record.describe(variants={"gmm": 2})
    content = json.loads(path.read_text())
    assert (content["recipe"], content["variants"]) == ("demo", {"none": 1, "gmm": 2})


def test_a_result_of_another_config_other_data_or_a_failed_run_does_not_hold(
    tmp_path: Path,
) -> None:
    record = StudyRecord(tmp_path / "results.json")
    add(record, result())
    add(record, result(seed=1, error="out of memory"))
    assert record.find("gmm", 0, tiny_config(), DATA) is not None
    assert record.find("gmm", 0, tiny_config(train__epochs=3), DATA) is None
    assert record.find("gmm", 0, tiny_config(), {**DATA, "val": "c"}) is None
    assert record.find("gmm", 1, tiny_config(), DATA) is None
    assert record.find("gmm", 2, tiny_config(), DATA) is None


def test_what_came_of_another_plan_takes_nothing_away(tmp_path: Path) -> None:
    record = StudyRecord(tmp_path / "results.json")
    add(record, result(steps=7))
    other = identity(tiny_config(train__epochs=3))
    add(record, result(error="refused"), other)
    add(record, result(steps=9), identity(data={**DATA, "val": "c"}))
    again = StudyRecord(record.path)
    for data, steps in ((DATA, 7), ({**DATA, "val": "c"}, 9)):
        found = again.find("gmm", 0, tiny_config(), data)
        assert found is not None
        assert found.steps == steps


def test_results_outlive_a_schema_that_has_grown(tmp_path: Path) -> None:
    """A key that a result's config does not have yet is read as its default."""
    record = StudyRecord(tmp_path / "results.json")
    add(record, result(steps=7))
    content = json.loads(record.path.read_text())
    (stored,) = content["identities"].values()
    del stored["config"]["mining"]["gradient_clip"]
    record.path.write_text(json.dumps(content))
    assert StudyRecord(record.path).find("gmm", 0, tiny_config(), DATA) is not None
    assert (
        StudyRecord(record.path).find("gmm", 0, tiny_config(mining__gradient_clip=3.0), DATA)
        is None
    )


def test_a_second_study_on_the_same_file_is_refused(tmp_path: Path) -> None:
    record = StudyRecord(tmp_path / "results.json")
    program = (
        "from pathlib import Path; from mono3d.comparison.study_record import StudyRecord\n"
        f"with StudyRecord(Path({str(record.path)!r})).locked(): print('mine')"
    )
    command = [sys.executable, "-c", program]
    with record.locked():
        other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "results.json: another study is writing to it" in other.stderr
    free = subprocess.run(command, capture_output=True, text=True, check=False)
    assert free.stdout.strip() == "mine"


def test_what_another_study_has_added_meanwhile_is_read_under_the_lock(tmp_path: Path) -> None:
    early, other = StudyRecord(tmp_path / "results.json"), StudyRecord(tmp_path / "results.json")
    with other.locked():
        add(other, result(seed=0))
    with early.locked():
        add(early, result(seed=1))
    again = StudyRecord(early.path)
    assert all(again.find("gmm", seed, tiny_config(), DATA) for seed in (0, 1))


def test_a_comparison_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    record = StudyRecord(tmp_path / "results.json")
    record.describe(comparison={"gmm": [], "ohem": []})
    record.describe(comparison={"gmm": []})
    assert json.loads(record.path.read_text())["comparison"] == {"gmm": []}


def test_metrics_that_are_not_finite_leave_valid_json(tmp_path: Path) -> None:
    record = StudyRecord(tmp_path / "results.json")
    record.describe(comparison=[math.inf, math.nan])
    text = record.path.read_text()
    assert json.loads(text, parse_constant=pytest.fail)["comparison"] == [None, None]


def test_threads_lose_nothing(tmp_path: Path) -> None:
    record = StudyRecord(tmp_path / "results.json")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: add(record, result(seed=seed)), range(40)))
    again = StudyRecord(record.path)
    assert all(again.find("gmm", seed, tiny_config(), DATA) for seed in range(40))
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


PLACES = {
    "checkpoint.every_steps", "checkpoint.keep", "checkpoint.metric", "checkpoint.mode",
    "cluster.cpus_per_worker", "cluster.gpus_per_worker", "cluster.max_failures",
    "cluster.storage", "data.blob_root", "data.root", "evaluation.batch_size", "input.cache_gib",
    "input.loader_processes", "seed", "tracking.experiment", "tracking.max_figures",
    "tracking.registered_model", "train.threads_per_worker",
}  # fmt: skip
"""Keys that say where or how a run works, or what is kept of it; the seed stands by itself."""


def test_every_key_but_these_makes_another_run() -> None:
    assert flatten(tiny_config()).keys() - identity().settings.keys() == PLACES


def test_roots_of_merged_data_are_places_too() -> None:
    sets = {"east": {"kind": "kitti", "root": "a"}, "west": {"kind": "kitti", "root": "b"}}
    data = {"kind": "merged", "class_names": ["car"], "sets": sets}
    settings = identity(tiny_config(data=data, checkpoint__metric="val/score")).settings
    assert not [key for key in settings if key.endswith("root")]
    assert "data.sets.east.kind" in settings


@pytest.mark.parametrize(
    "change", [{"mining__sharpness": 3.0}, {"train__batch_size": 3}, {"cluster__workers": 2}]
)
def test_what_decides_changes_the_digest(change: dict[str, object]) -> None:
    assert identity(tiny_config(**change)).digest != identity().digest


def test_a_place_does_not_and_data_do() -> None:
    moved = tiny_config(data__root="/elsewhere", cluster__storage="s3://there", seed=3)
    assert identity(moved).digest == identity().digest
    assert identity(data={**DATA, "val": "c"}).digest != identity().digest


def test_where_a_teacher_lies_does_not_matter_who_it_is_does() -> None:
    add = {"distillation__kind": "add", "distillation__teacher": "runs/a"}
    moved = tiny_config(**(add | {"distillation__teacher": "s3://b"}))
    taught = {**DATA, "teacher": "t"}
    known = identity(tiny_config(**add), taught)
    assert identity(moved, taught).digest == known.digest
    assert identity(moved, {**DATA, "teacher": "u"}).digest != known.digest


def test_of_an_assistant_only_its_place_does_not_matter() -> None:
    own = {
        "model": {"kind": "bev", "residual_stream": True}, "distillation__kind": "monotakd",
        "distillation__teacher": "runs/a",
    }  # fmt: skip
    plain = identity(tiny_config(**own)).digest
    for change in (
        {"distillation__assistant_depth": "objects"},
        {"distillation__assistant_weight": 5.0},
    ):
        assert identity(tiny_config(**own, **change)).digest != plain
    moved = [{"distillation__assistant": place} for place in ("runs/b", "s3://c")]
    assert len({identity(tiny_config(**own, **change)).digest for change in moved}) == 1
