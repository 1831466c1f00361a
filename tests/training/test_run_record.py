import json
from pathlib import Path

import pytest

from mono3d.errors import ConfigError, StorageError
from mono3d.training.run_record import (
    RunResult,
    close_run,
    is_open_to,
    open_run,
    read_result,
    run_location,
)
from tests.support.training import tiny_config

RESULT = RunResult(
    name="a",
    steps=8,
    metrics={"val/good": 0.5, "val/unknown": float("nan")},
    best_checkpoint="runs/a/checkpoints/step_00000004",
    last_checkpoint="runs/a/checkpoints/step_00000008",
)


def test_the_folder_is_absolute_or_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_location(tiny_config(), "a") == str(tmp_path / "runs" / "a")
    in_store = tiny_config(cluster__storage="s3://bucket/prefix/")
    assert run_location(in_store, "a") == "s3://bucket/prefix/a"


@pytest.mark.parametrize("name", ["", ".a", "a/b", "a b", "ä", "a" * 101])
def test_refuses_names_that_are_no_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="run name"):
        run_location(tiny_config(), name)


def test_a_run_has_a_result_once_it_is_over(tmp_path: Path) -> None:
    location, config = str(tmp_path / "a"), tiny_config()
    assert open_run(location, config) is None
    assert open_run(location, config) is None
    written = close_run(location, RESULT)
    assert written.metrics == {"val/good": 0.5}
    assert open_run(location, config) == written == read_result(location)


def test_the_first_key_that_differs_is_named(tmp_path: Path) -> None:
    location = str(tmp_path / "a")
    open_run(location, tiny_config())
    with pytest.raises(ConfigError) as refusal:
        open_run(location, tiny_config(train__epochs=3, seed=1))
    assert str(refusal.value) == (
        f"seed=1: the run in {location} has 0; take another run name, or the old value to go on "
        "with it"
    )


def test_a_choice_that_adds_keys_differs(tmp_path: Path) -> None:
    location = str(tmp_path / "a")
    open_run(location, tiny_config(mining__kind="none"))
    with pytest.raises(ConfigError, match=r"^mining\.floor=0\.\d+: .* has nothing"):
        open_run(location, tiny_config())


def test_what_changes_no_number_may_differ(tmp_path: Path) -> None:
    location = str(tmp_path / "a")
    open_run(location, tiny_config())
    other = tiny_config(
        cluster__max_failures=9, cluster__cpus_per_worker=0.5, input__loader_processes=2
    )
    assert open_run(location, other) is None


def test_damaged_records_are_said(tmp_path: Path) -> None:
    location, config = str(tmp_path / "a"), tiny_config()
    open_run(location, config)
    (tmp_path / "a" / "result.json").write_text(json.dumps({"name": "a"}))
    with pytest.raises(StorageError, match=r"result\.json: damaged; delete it"):
        open_run(location, config)
    (tmp_path / "a" / "run.json").write_text("{")
    with pytest.raises(StorageError, match=r"run\.json: damaged; choose another run name"):
        open_run(location, config)


def test_a_folder_is_open_to_a_new_run_and_to_its_own_until_it_is_over(tmp_path: Path) -> None:
    location, config = str(tmp_path / "run"), tiny_config()
    assert is_open_to(location, config)
    open_run(location, config)
    assert is_open_to(location, config)
    assert not is_open_to(location, tiny_config(seed=1))
    close_run(location, RESULT)
    assert not is_open_to(location, config)
