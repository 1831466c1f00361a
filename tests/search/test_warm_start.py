from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mono3d.errors import ConfigError
from mono3d.search.database import open_database
from mono3d.search.warm_start import Known, Source, earlier_search, mlflow_runs, take_over
from tests.support.searches import METRIC, SPACE, new_record, sqlite_url


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path)


def source(*known: Known) -> Source:
    return Source(name="elsewhere", known=known)


def known(settings: dict[str, object], **metrics: float) -> Known:
    return Known(origin=str(settings), settings=settings, metrics=metrics or {METRIC: 0.2})


def test_an_earlier_search_s_finished_trials_are_known_and_cost_nothing(url: str) -> None:
    earlier = new_record(url, "earlier")
    for value in (0.3, 0.2):
        proposal = earlier.propose()
        assert proposal is not None
        earlier.finish(proposal.number, [[value]])
    failed = earlier.propose()
    assert failed is not None
    earlier.fail(failed.number, "it broke")
    record = new_record(url, "later", budget={"trials": 1})
    found = earlier_search(open_database(url, creates=False), "earlier")
    assert take_over(found, record, SPACE) == "warm start: 2 results of earlier"
    assert take_over(found, record, SPACE) == "warm start: 0 results of earlier"  # no duplicates
    imported = record.study.trials
    assert [trial.values for trial in imported] == [[0.3], [0.2]]
    assert [trial.params for trial in imported] == [t.params for t in earlier.study.trials[:2]]
    assert imported[1].user_attrs["imported"] == "earlier #1"
    assert record.study.best_trial.number == 1
    assert record.config_of(1).optim.lr == imported[1].params["optim.lr"]
    assert record.propose() is not None
    assert record.propose() is None
    # What was taken over is not handed on: its own search has it.
    again = earlier_search(open_database(url, creates=False), "later")
    assert list(again.known) == []


def test_what_does_not_fit_is_left_out_and_said(url: str) -> None:
    record = new_record(url)
    fits = {"optim.lr": "0.001", "mining.kind": "none", "train.batch_size": "4"}
    line = take_over(
        source(
            known(fits),
            known({**fits, "optim.lr": "1.0"}),
            known({"mining.kind": "none"}),
            known({**fits, "mining.kind": "ohem"}),
            known({**fits, "train.batch_size": "4", "x": "y"}, other=1.0),
            known({**fits, "z": "w"}, **{METRIC: float("nan")}),
        ),
        record,
        SPACE,
    )
    assert line.startswith("warm start: 1 results of elsewhere; 5 do not fit, the first: ")
    assert "optim.lr" in line
    (trial,) = record.study.trials
    assert trial.params == {"optim.lr": 0.001, "mining.kind": "none"}
    assert trial.state == TrialState.COMPLETE


@pytest.mark.parametrize(
    ("key", "value"), [("data.root", "elsewhere"), ("train.epochs", "1"), ("train.epochs", 90)]
)
def test_what_was_measured_otherwise_is_left_out(url: str, key: str, value: object) -> None:
    record = new_record(url)
    fits = {"optim.lr": "0.001", "mining.kind": "none", "train.batch_size": "4"}
    alike = {"data.root": "somewhere", "train.epochs": "9"}
    line = take_over(source(known({**fits, **alike}), known({**fits, key: value})), record, SPACE)
    assert line.startswith("warm start: 1 results of elsewhere; 1 do not fit, the first: ")
    assert line.endswith(f"has {key}={value}")


def test_a_search_that_is_not_there(url: str) -> None:
    storage = open_database(url, creates=True)
    with pytest.raises(ConfigError, match="--warm-start nobody: the database has no such search"):
        earlier_search(storage, "nobody")


def test_mlflow_needs_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="needs MLFLOW_TRACKING_URI"):
        mlflow_runs("mono3d", "")


@pytest.mark.services
def test_finished_runs_in_mlflow_are_known(stack_environ: dict[str, str], url: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(stack_environ["MLFLOW_TRACKING_URI"])
    experiment = client.create_experiment("warm-start")
    for number, status in enumerate(["FINISHED", "FINISHED", "FAILED"]):
        run = client.create_run(experiment, tags={"mono3d.run_name": f"run{number}"})
        params = {"optim.lr": "0.002", "mining.kind": "ohem", "mining.share": "0.5",
                  "train.batch_size": "4"}  # fmt: skip
        for key, value in params.items():
            client.log_param(run.info.run_id, key, value)
        client.log_metric(run.info.run_id, METRIC, 0.1 + number)
        client.set_terminated(run.info.run_id, status)
    record = new_record(url)
    everything = mlflow_runs("warm-start", "")
    assert take_over(everything, record, SPACE) == "warm start: 2 results of MLflow, "
    assert sorted(trial.value for trial in record.study.trials) == [0.1, 1.1]
    few = mlflow_runs("warm-start", f"metrics.`{METRIC}` < 0.5")
    assert len(list(few.known)) == 1
    with pytest.raises(ConfigError, match="query 'nonsense'"):
        mlflow_runs("warm-start", "nonsense")
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
