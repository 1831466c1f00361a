import json
from dataclasses import replace
from pathlib import Path

import pytest

from mono3d.errors import CheckpointError, ConfigError, StorageError
from mono3d.training.checkpoint import save_checkpoint
from mono3d.training.parts import Place, run_facts
from mono3d.training.run_record import (
    RunResult,
    close_run,
    initial_checkpoint,
    is_open_to,
    open_run,
    read_result,
    resolve_checkpoint,
    run_location,
)
from tests.support.training import tiny_config, tiny_parts

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
        cluster__max_failures=9,
        cluster__cpus_per_worker=0.5,
        input__loader_processes=2,
        input__cache_gib=7,
        data__root="s3://bucket/moved",
        data__blob_root="s3://bucket/blobs",
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


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run that is over, and its one checkpoint."""
    config, folder = tiny_config(), tmp_path / "finished"
    checkpoint = folder / "checkpoints" / "step_00000004"
    state = tiny_parts(config, Place()).state
    save_checkpoint(state, checkpoint, facts=run_facts(config, {}), metrics={})
    close_run(str(folder), replace(RESULT, best_checkpoint=str(checkpoint)))
    return folder


def test_a_checkpoint_has_three_names(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    best = str(finished / "checkpoints" / "step_00000004")
    assert resolve_checkpoint("finished") == best
    assert resolve_checkpoint("finished/checkpoints/step_00000004") == best
    with pytest.raises(ConfigError, match="'0123': no such folder; an MLflow run id needs"):
        resolve_checkpoint("0123")


def test_where_a_run_starts_from_is_looked_up_once(finished: Path, tmp_path: Path) -> None:
    location = str(tmp_path / "tuned")
    config = tiny_config(train__init_from=str(finished))
    open_run(location, config)
    best = str(finished / "checkpoints" / "step_00000004")
    assert initial_checkpoint(location) == best
    (finished / "result.json").unlink()
    assert open_run(location, config) is None
    assert initial_checkpoint(location) == best
    with pytest.raises(ConfigError, match=r"^train\.init_from=null: the run in .* has /"):
        open_run(location, tiny_config())


def test_a_run_that_starts_from_nothing_good_is_not_registered(
    finished: Path, tmp_path: Path
) -> None:
    location = str(tmp_path / "tuned")
    (finished / "checkpoints" / "step_00000004" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"no complete checkpoint, it has no manifest\.json"):
        open_run(location, tiny_config(train__init_from=str(finished)))
    assert not Path(location).exists()
    open_run(location, tiny_config())
    assert initial_checkpoint(location) is None
