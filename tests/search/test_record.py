import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from mono3d.errors import ConfigError, ServiceError
from mono3d.search.database import open_database
from mono3d.search.lock import only_this_process
from mono3d.search.record import create_search, open_search
from mono3d.search.report.table import ranked
from mono3d.search.report.view import view
from mono3d.search.settings import Budget
from mono3d.search.space import Objective, Space
from tests.support.searches import (
    METRIC,
    draw,
    new_record,
    reopened,
    settings,
    sqlite_url,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database of either kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    return str(request.getfixturevalue("postgresql"))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a search that no other test has."""
    return f"s{abs(hash(request.node.name)) % 10**9}"


def result(value: float) -> list[list[float]]:
    return [[value]]


def test_what_a_killed_process_left_running_is_proposed_again(url: str, name: str) -> None:
    before = new_record(url, name)
    first, second = before.propose(), before.propose()
    assert first is not None
    assert second is not None
    before.finish(first.number, result(0.2))
    after = reopened(url, name)
    again, third = after.propose(), after.propose()
    assert again is not None
    assert third is not None
    assert (again.number, again.is_resumed) == (second.number, True)
    assert again.settings == second.settings
    assert again.configs == second.configs
    assert again.run_names == second.run_names
    assert (third.number, third.is_resumed) == (2, False)
    after.finish(again.number, result(0.1))
    assert after.study.best_trial.number == second.number


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "nsga2"])
def test_a_kill_changes_no_later_proposal(sampler: str, tmp_path: Path) -> None:
    """Each trial is another process's in one, all are one process's in the other."""
    url = sqlite_url(tmp_path)
    proposed: dict[str, list[Any]] = {"whole": [], "killed": []}
    for name, proposals in proposed.items():
        record = new_record(url, name, sampler=sampler, budget={"trials": 12})
        for number in range(12):
            if name == "killed":
                record = reopened(url, name)
            proposal = record.propose()
            assert proposal is not None
            proposals.append(proposal.settings)
            record.finish(number, result(proposal.settings["optim.lr"]))
        assert record.propose() is None
    assert proposed["killed"] == proposed["whole"]
    if sampler != "nsga2":  # whose children may equal a parent
        assert len({str(settings) for settings in proposed["whole"]}) == 12


def test_early_stopping_knows_what_earlier_processes_saw(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    record = new_record(url, reduction=3)
    for value in (0.1, 0.2, 0.3):
        proposal = record.propose()
        assert proposal is not None
        record.is_bad(proposal.number, 1, value)
        record.finish(proposal.number, result(value))
    verdicts = {}
    for value in (0.05, 0.9):
        record = reopened(url)
        proposal = record.propose()
        assert proposal is not None
        verdicts[value] = record.is_bad(proposal.number, 1, value)
        record.finish(proposal.number, result(value))
    assert verdicts == {0.05: False, 0.9: True}


def test_an_epoch_that_is_reported_again_counts_once(tmp_path: Path) -> None:
    record = new_record(sqlite_url(tmp_path))
    proposal = record.propose()
    assert proposal is not None
    record.is_bad(proposal.number, 1, 0.5)
    record.is_bad(proposal.number, 1, 0.7)
    assert record.trial(proposal.number).intermediate_values == {1: 0.5}


def test_states_reasons_and_repeats_are_kept(url: str, name: str) -> None:
    record = new_record(url, name, repeats=2, seed=5)
    numbers = []
    for _ in range(3):
        proposal = record.propose()
        assert proposal is not None
        assert [config.seed for config in proposal.configs] == [5, 6]
        assert proposal.run_names == [f"{name}-{proposal.number:04d}-seed{s}" for s in (5, 6)]
        numbers.append(proposal.number)
    record.finish(numbers[0], [[0.2], [0.4]], checkpoint="here")
    record.is_bad(numbers[1], 1, 0.9)
    record.stop(numbers[1], "worse than others")
    record.fail(numbers[2], "it broke")
    done, stopped, failed = reopened(url, name).own_trials()
    assert done.values == [pytest.approx(0.3)]
    assert done.user_attrs["repeats"] == [[0.2], [0.4]]
    assert done.user_attrs["checkpoint"] == "here"
    assert done.user_attrs["seconds"] >= 0
    assert (stopped.state, stopped.value) == (optuna.trial.TrialState.PRUNED, 0.9)
    assert stopped.user_attrs["reason"] == "worse than others"
    assert (failed.state, failed.user_attrs["reason"]) == (optuna.trial.TrialState.FAIL, "it broke")


def test_the_budget_counts_what_was_run_here_and_may_be_raised(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    record = new_record(url, budget={"trials": 1})
    record.study.add_trial(
        optuna.create_trial(value=0.5, params={}, user_attrs={"imported": "another search"})
    )
    proposal = record.propose()
    assert proposal is not None
    record.fail(proposal.number, "it broke")
    assert record.propose() is None
    record.raise_budget(Budget(trials=2, hours=None, gpu_hours=None))
    assert reopened(url).propose() is not None


def test_draws_that_are_no_runs_fail_with_the_reason(tmp_path: Path) -> None:
    def odd(trial: Any) -> dict[str, object]:
        lr = trial.suggest_float("optim.lr", 1e-4, 1e-2)
        return {"train.batch_size": 4 if lr > 5e-3 else -1}

    record = new_record(sqlite_url(tmp_path))
    record._space = space_with(odd)
    proposal = record.propose()
    assert proposal is not None
    assert proposal.configs[0].train.batch_size == 4
    failed = [t for t in record.own_trials() if t.state == optuna.trial.TrialState.FAIL]
    assert all("train.batch_size" in trial.user_attrs["reason"] for trial in failed)

    def never(trial: Any) -> dict[str, object]:
        trial.suggest_float("optim.lr", 1e-4, 1e-2)
        return {"train.batch_size": -1}

    record = new_record(sqlite_url(tmp_path), "never", budget={"trials": 50})
    record._space = space_with(never)
    with pytest.raises(ConfigError, match=r"20 proposals in a row are no runs: .*batch_size"):
        record.propose()


def test_a_trial_that_has_begun_is_not_failed_by_another_version(tmp_path: Path) -> None:
    def odd(trial: Any) -> dict[str, object]:
        return {**draw(trial), "train.batch_size": 0}

    url = sqlite_url(tmp_path)
    assert new_record(url).propose() is not None
    record = reopened(url)
    record._space = space_with(odd)
    with pytest.raises(ConfigError, match=r"trial 0, which has begun, .*batch_size.*--warm-start"):
        record.propose()
    assert record.trial(0).state == optuna.trial.TrialState.RUNNING


def test_a_space_that_raises_fails_its_trial_and_the_next_is_drawn(tmp_path: Path) -> None:
    def odd(trial: Any) -> dict[str, object]:
        if trial.suggest_float("optim.lr", 1e-4, 1e-2) < 5e-3:
            raise ZeroDivisionError("in a corner")
        return {}

    record = new_record(sqlite_url(tmp_path))
    record._space = space_with(odd)
    proposal = record.propose()
    assert proposal is not None
    failed = [t for t in record.own_trials() if t.state == optuna.trial.TrialState.FAIL]
    assert all("in a corner" in trial.user_attrs["reason"] for trial in failed)


def test_epochs_are_those_that_the_space_fixes(tmp_path: Path) -> None:
    def short(trial: Any) -> dict[str, object]:
        trial.suggest_float("optim.lr", 1e-4, 1e-2)
        return {"train.epochs": 3}

    record = new_record(sqlite_url(tmp_path), space=space_with(short))
    assert record.epochs == 3
    proposal = record.propose()
    assert proposal is not None
    record.finish(proposal.number, result(0.2))
    assert record.trial(proposal.number).intermediate_values == {3: 0.2}


def space_with(function: Any) -> Space:
    return Space(
        source="space.py",
        digest="0" * 64,
        about="",
        objectives=(Objective(metric=METRIC, mode="min"),),
        draw=function,
    )


def test_a_name_is_a_search_s_for_ever(url: str, name: str) -> None:
    storage = open_database(url, creates=True)
    create_search(storage, name, settings())
    with pytest.raises(ConfigError, match=f"--resume {name} goes on"):
        create_search(storage, name, settings())
    with pytest.raises(ConfigError, match=f"search nobody: .*{name}"):
        open_search(storage, "nobody")
    with pytest.raises(ConfigError, match="run name"):
        create_search(storage, "no/folder", settings())
    optuna.create_study(storage=storage, study_name=f"{name}-foreign")
    with pytest.raises(ConfigError, match="was not made by mono3d tune"):
        open_search(storage, f"{name}-foreign")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sampler": "magic"}, "sampler: Input should be 'tpe'"),
        (
            {"objectives": {METRIC: "min", "val/nuscenes_map": "max"}},
            "scheduler=asha: with several objectives no trial is stopped early",
        ),
        (
            {
                "objectives": {METRIC: "min", "val/nuscenes_map": "max"},
                "scheduler": "none",
                "sampler": "cmaes",
            },
            "sampler=cmaes: has one objective",
        ),
        ({"budget": {"trials": 0}}, "budget.trials: "),
    ],
)
def test_settings_that_do_not_go_together(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**changed)


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("sqlite:///nowhere.db", ConfigError, "nowhere.db: there are no searches"),
        ("mysql://host/name", ConfigError, "mysql is neither sqlite nor postgresql"),
        ("not a url", ConfigError, "must be sqlite:///PATH or postgresql://"),
        (
            "postgresql://me:a-long-secret-word@127.0.0.1:1/name",
            ServiceError,
            r"me:\*\*\*@127.0.0.1:1/name: cannot be opened",
        ),
    ],
)
def test_databases_that_cannot_be_opened(url: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        open_database(url, creates=False)
    assert "a-long-secret-word" not in str(caught.value)


def test_a_damaged_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "searches.db"
    path.write_text("this is no database " * 100)
    with pytest.raises(ServiceError, match=r"searches\.db: cannot be opened"):
        open_database(f"sqlite:///{path}", creates=True)
    assert path.read_text().startswith("this is no database")


@pytest.mark.slow
def test_a_search_is_one_process_s(url: str, name: str, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from mono3d.errors import ConfigError\n"
        "from mono3d.search.database import open_database\n"
        "from mono3d.search.lock import only_this_process\n"
        "try:\n"
        "    with only_this_process(sys.argv[1], open_database(sys.argv[2], creates=True)):\n"
        "        print('mine')\n"
        "except ConfigError as error: print(error)\n"
    )

    def other(name: str) -> str:
        # SQLite's file by another path to it.
        address = url.replace(f"{tmp_path}/", "")
        command = [sys.executable, "-c", program, name, address]
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        return run.stdout.strip()

    with only_this_process(name, open_database(url, creates=True)):
        assert other(name) == f"search {name}: another process works on it"
        assert other(f"{name}b") == "mine"
    assert other(name) == "mine"


def test_what_a_killed_creation_left_is_no_search(url: str, name: str) -> None:
    storage = open_database(url, creates=True)
    optuna.create_study(storage=storage, study_name=name)
    assert create_search(storage, name, settings()).settings == settings()
    optuna.create_study(storage=storage, study_name=f"{name}-of-another").set_user_attr("a", 1)
    with pytest.raises(ConfigError, match="is there already"):
        create_search(storage, f"{name}-of-another", settings())


def without_numbers(trial: Any) -> dict[str, object]:
    trial.suggest_categorical("mining.kind", ["none", "ohem"])
    return {}


def test_settings_that_were_tried_are_known(tmp_path: Path) -> None:
    record = new_record(
        sqlite_url(tmp_path), space=space_with(without_numbers), sampler="random", repeats=2
    )
    ends: dict[str, int] = {}
    for number in range(6):
        proposal = record.propose()
        assert proposal is not None
        kind = str(proposal.settings["mining.kind"])
        assert proposal.same_as == ends.get(kind)
        if proposal.same_as is None:
            ends[kind] = number
            record.finish(number, [[0.2 + number], [0.4]], run="run", checkpoint="there")
        else:
            record.finish_as(number, record.trial(proposal.same_as), "known")
    assert set(ends) == {"none", "ohem"}
    for trial in record.own_trials():
        first = record.trial(ends[trial.params["mining.kind"]])
        assert (trial.state, trial.value) == (first.state, first.value)
        assert trial.user_attrs.get("same_as") == (
            None if trial.number == first.number else first.number
        )
    rows = ranked(record.study)
    assert [row.state for row in rows] == ["finished"] * 2 + ["tried before"] * 4
    assert [row.rank for row in rows] == [1, 2, None, None, None, None]
    assert len(view(record.study).usable) == 2


def test_what_has_no_result_is_not_known(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    space = space_with(without_numbers)
    record = new_record(url, space=space, sampler="random", budget={"trials": 12})
    for number in range(12):
        proposal = record.propose()
        assert proposal is not None
        assert proposal.same_as is None
        match number % 3:
            case 0:
                record.fail(number, "it broke")
            case 1:
                record.is_bad(number, 1, 0.5)
                record.stop(number, "worse than others")
    running = [t for t in record.own_trials() if not t.state.is_finished()]
    # What ran beside one of the same settings that has finished since goes on as it is.
    record.finish(running[0].number, result(0.5))
    again = reopened(url, space=space)
    for _ in running[1:]:
        proposal = again.propose()
        assert proposal is not None
        assert (proposal.is_resumed, proposal.same_as) == (True, None)


def test_a_reason_that_a_kill_left_is_none_of_a_finished_trial(tmp_path: Path) -> None:
    record = new_record(sqlite_url(tmp_path))
    proposal = record.propose()
    assert proposal is not None
    record._note(proposal.number, reason="the budget of 1 hours was spent")
    record.finish(proposal.number, result(0.2))
    assert record.trial(proposal.number).user_attrs["reason"] == ""


def test_ends_that_are_owed_are_kept_until_they_are_settled(url: str, name: str) -> None:
    record = new_record(url, name)
    assert record.owed == []
    record.note_owed(11, is_owed=True)
    record.note_owed(3, is_owed=True)
    record.note_owed(4, is_owed=False)
    assert reopened(url, name).owed == [3, 11]
    record.note_owed(3, is_owed=False)
    assert reopened(url, name).owed == [11]
