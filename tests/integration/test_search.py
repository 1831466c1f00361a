"""A search on Ray Tune with S3 and MLflow: killed, gone on with, and what it leaves behind."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import ray
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState
from ray.util import placement_group_table

from mono3d.config.load import load_recipe
from mono3d.config.training_sections import ClusterConfig
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.search.record import SearchRecord
from mono3d.search.runs import run_search
from mono3d.search.space import Space, SpaceShape, load_space
from mono3d.search.space_walk import check_space
from mono3d.search.trial import TrialReport
from mono3d.search.tuner import search_on_ray
from mono3d.tracking.tracker import NullTracker
from mono3d.training.ray_session import ray_session
from tests.search.test_conductor import Lines
from tests.support.cli_process import finished, start
from tests.support.mlflow_process import MlflowProcess
from tests.support.searches import new_record, sqlite_url

pytestmark = [
    pytest.mark.ray,
    # Ray Data, which Ray Train sets up, warns of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

METRIC = "val/centers_depth_abs_rel"
SPACE = f"""
\"\"\"Which learning rate?\"\"\"

METRIC, MODE = "{METRIC}", "min"


def space(trial):
    trial.suggest_float("optim.lr", 1e-4, 1e-2, log=True)
    return {{}}
"""
SHRUNK = (
    "data.root=data", "input.image_height_px=64", "input.image_width_px=128",
    "model.backbone.width=16", "model.channels=8", "train.epochs=4", "train.epoch_frames=16",
    "train.batch_size=4", "train.log_every_steps=1", "tracking.max_figures=0",
)  # fmt: skip
TRIALS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with data and a space."""
    folder = tmp_path_factory.mktemp("search")
    config = SyntheticConfig(
        image_size=(128, 72), train_scenes=4, val_scenes=1, samples_per_scene=1, seed=3
    )
    write_nuscenes(folder / "data", config, num_processes=1)
    (folder / "rate.py").write_text(SPACE)
    return folder


def begin(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    options = ["--space", "rate.py", "--trials", str(TRIALS), "--sampler", "random"]
    return start(folder, "tune", "mining_study", *options, *SHRUNK, *arguments)


Trials = Sequence[optuna.trial.FrozenTrial]


def trials_of(folder: Path, name: str) -> Trials:
    if not (folder / "runs" / "searches.db").exists():
        return []
    url = f"sqlite:///{folder / 'runs' / 'searches.db'}"
    names = optuna.get_all_study_names(url)
    return optuna.load_study(storage=url, study_name=name).trials if name in names else []


def kill_when(
    process: "subprocess.Popen[str]", folder: Path, name: str, is_time: Callable[[Trials], bool]
) -> None:
    """Kill a search and all its processes as soon as its database says that it is time."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        if is_time(trials_of(folder, name)):
            break
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[0]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def first_is_on_its_way(trials: Trials) -> bool:
    return any(len(trial.intermediate_values) == 2 for trial in trials)


def second_has_begun(trials: Trials) -> bool:
    return [trial.state for trial in trials[:2]] == [TrialState.COMPLETE, TrialState.RUNNING]


def runs_of(client: MlflowClient, name: str) -> tuple[Run, list[Run]]:
    """The search's own record, and those of its trials."""
    experiment = client.get_experiment_by_name("mono3d")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.study = '{name}'")
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    return parent, [run for run in runs if run is not parent]


def outcome(trials: Trials) -> Mapping[int, object]:
    """What must not depend on whether a search was killed."""
    return {t.number: (t.params, t.state, t.value, t.intermediate_values) for t in trials}


@pytest.mark.chaos
def test_a_killed_search_ends_as_if_nothing_had_happened(
    folder: Path, stack_environ: dict[str, str]
) -> None:
    """Trials one after the other: with several at a time early stopping depends on their order."""
    whole = finished(begin(folder, "--name", "whole", "--parallel", "1"))
    stored = ("--name", "killed", "--parallel", "1", "cluster.storage=s3://mono3d/searches")
    again = ("--resume", "killed", "--parallel", "1")
    kill_when(begin(folder, *stored), folder, "killed", first_is_on_its_way)
    kill_when(start(folder, "tune", *again), folder, "killed", second_has_begun)
    output = finished(start(folder, "tune", *again))
    after = trials_of(folder, "killed")

    assert outcome(after) == outcome(trials_of(folder, "whole"))
    assert len(after) == TRIALS
    assert "trial 0 " not in output.partition("Best of")[0]  # not run again
    assert "trial 1 goes on: optim.lr=" in output
    assert {trial.state for trial in after} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert "recipe   runs/whole/best.yaml" in whole
    best = load_recipe(str(folder / "runs" / "killed" / "best.yaml"))
    assert (
        best.optim.lr
        == min(
            (t for t in after if t.state == TrialState.COMPLETE), key=lambda t: float(t.value or 0)
        ).params["optim.lr"]
    )

    client = MlflowClient(stack_environ["MLFLOW_TRACKING_URI"])
    parent, children = runs_of(client, "killed")
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics[f"best/{METRIC}"] == min(
        t.value for t in after if t.state == TrialState.COMPLETE
    )
    assert sorted(run.info.run_name for run in children) == [
        f"killed-{number:04d}" for number in range(TRIALS)
    ]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    statuses = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED"}
    by_number = {int(run.data.tags["trial"]): run for run in children}
    for trial in after:
        run = by_number[trial.number]
        assert run.info.status == statuses[trial.state]
        assert run.data.params["optim.lr"] == str(trial.params["optim.lr"])
        history = client.get_metric_history(run.info.run_id, METRIC)
        steps = [point.step for point in history]
        assert sorted(set(steps)) == sorted(steps)  # nothing twice
        assert len(steps) == trial.user_attrs["epochs"]
        assert history[-1].value == pytest.approx(trial.value)
    files = {file.path for file in client.list_artifacts(parent.info.run_id, "search")}
    assert {"search/report.md", "search/search.html", "search/best.yaml"} <= files


@pytest.mark.chaos
def test_no_secret_is_in_what_a_search_writes(folder: Path, stack_environ: dict[str, str]) -> None:
    """After the test before this one."""
    secret = stack_environ["AWS_SECRET_ACCESS_KEY"].encode()
    written = [path for path in (folder / "runs").rglob("*") if path.is_file()]
    assert any(path.name == "searches.db" for path in written)
    assert not [path for path in written if secret in path.read_bytes()]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session(ClusterConfig(workers=2), has_dashboard=True):
        yield


def resources_are_back() -> bool:
    kinds = ("CPU", "memory")
    total, free = ray.cluster_resources(), ray.available_resources()
    states = {entry["state"] for entry in placement_group_table().values()}
    return states <= {"REMOVED"} and all(free.get(kind) == total[kind] for kind in kinds)


def wait_for_resources(seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not resources_are_back() and time.monotonic() < deadline:
        time.sleep(0.2)
    return resources_are_back()


def children_named(word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if word in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


class Killer(Lines):
    """Kills processes of a trial when it is evaluated for the second time."""

    def __init__(self, word: str, *, in_run: int = 0) -> None:
        super().__init__()
        self._word = word
        self._in_run = in_run
        self.killed = 0
        self.runs: list[int] = []
        """Of each evaluation, which of its trial's runs it was."""

    def moved(self, report: TrialReport, value: float) -> None:
        super().moved(report, value)
        self.runs.append(report.run)
        if (report.run, report.epoch) == (self._in_run, 2) and not self.killed:
            self.kill()

    def kill(self) -> None:
        for process in children_named(self._word):
            process.kill()
            self.killed += 1


class LateKiller(Killer):
    """Kills them when a trial has been stopped early, before its actor has heard of that."""

    def moved(self, report: TrialReport, value: float) -> None:
        Lines.moved(self, report, value)

    def ended(self, number: int, state: str, value: float, reason: str) -> None:
        super().ended(number, state, value, reason)
        if state == "stopped early" and not self.killed:
            self.kill()


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("ray::TrialActor", marks=pytest.mark.chaos),
        pytest.param("ray::RayTrainWorker", marks=pytest.mark.slow),
    ],
)
def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(
    word: str, cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(tmp_path, monkeypatch)
    display = Killer(word)
    record = search_of(folder, tmp_path, trials=1, scheduler="none")
    search_on_ray(record, display, parent=NullTracker(), parallel=1)
    assert display.killed
    (trial,) = record.own_trials()
    assert trial.state == TrialState.COMPLETE
    assert sorted(trial.intermediate_values) == [1, 2, 3, 4]
    said = " ".join(display.lines)
    assert "resumed at step" in said
    assert ("trial 0: its process died" in said) == (word == "ray::TrialActor")
    assert wait_for_resources(60)


@pytest.mark.chaos
def test_the_last_of_several_trials_goes_on_too(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its actor dies when there was no further trial to begin, and a place for one."""

    class LastKiller(LateKiller):
        def ended(self, number: int, state: str, value: float, reason: str) -> None:
            Lines.ended(self, number, state, value, reason)
            if not self.killed:
                self.kill()

    alone(tmp_path, monkeypatch)
    display = LastKiller("ray::TrialActor")
    record = search_of(folder, tmp_path, trials=2, scheduler="none")
    search_on_ray(record, display, parent=NullTracker(), parallel=2)
    assert display.killed
    assert [trial.state for trial in record.own_trials()] == [TrialState.COMPLETE] * 2


@pytest.mark.chaos
def test_of_several_seeds_those_that_are_done_are_not_trained_again(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(tmp_path, monkeypatch)
    display = Killer("ray::TrialActor", in_run=1)
    record = search_of(folder, tmp_path, trials=1, scheduler="none", repeats=2)
    search_on_ray(record, display, parent=NullTracker(), parallel=1)
    assert display.killed
    (trial,) = record.own_trials()
    first, second = trial.user_attrs["repeats"]
    assert trial.value == pytest.approx((first[0] + second[0]) / 2)
    assert first != second
    said = " ".join(display.lines)
    assert f"run {record.name}-0000-seed0 is finished" in said
    assert display.runs == sorted(display.runs)
    assert display.runs.count(0) == 3
    assert trial.intermediate_values[4] == first[0]


@pytest.mark.chaos
def test_an_actor_that_dies_before_it_hears_a_verdict_ends_only_its_trial(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(tmp_path, monkeypatch)
    display = LateKiller("ray::TrialActor")
    record = search_of(folder, tmp_path, trials=6, scheduler="asha")
    search_on_ray(record, display, parent=NullTracker(), parallel=1)
    assert display.killed
    states = [trial.state for trial in record.own_trials()]
    assert len(states) == 6
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert wait_for_resources(60)


class Switch(Lines):
    """Kills an MLflow server when the first trial is on its way."""

    def __init__(self, server: MlflowProcess) -> None:
        super().__init__()
        self._server = server
        self.is_off = False

    def moved(self, report: TrialReport, value: float) -> None:
        super().moved(report, value)
        if not self.is_off:
            self._server.kill()
            self.is_off = True


@pytest.mark.chaos
def test_mlflow_hears_later_what_it_missed(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = MlflowProcess(tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    record = search_of(folder, tmp_path, trials=2, scheduler="none")
    space, shape = space_of(folder, record)

    def run(display: Lines) -> None:
        run_search(record, space, shape, display, parallel=1)

    server.start()
    run(Switch(server))
    assert {trial.state for trial in record.own_trials()} == {TrialState.COMPLETE}
    assert record.owed == [0, 1]
    server.start()
    try:
        again = Lines()
        run(again)
        assert not any("began" in line for line in again.lines)
        assert record.owed == []
        parent, children = runs_of(MlflowClient(server.uri), record.name)
        assert parent.info.status == "FINISHED"
        assert len(children) == 2
        for run_of_trial in children:
            trial = record.trial(int(run_of_trial.data.tags["trial"]))
            assert run_of_trial.info.status == "FINISHED"
            assert run_of_trial.data.tags["trial.state"] == "finished"
            assert run_of_trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert run_of_trial.data.metrics[f"objective/{METRIC}"] == pytest.approx(trial.value)
            history = MlflowClient(server.uri).get_metric_history(run_of_trial.info.run_id, METRIC)
            assert len(history) == 4
    finally:
        server.kill()


@pytest.mark.chaos
def test_trials_that_are_stopped_leave_no_resources_behind(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(tmp_path, monkeypatch)
    record = search_of(folder, tmp_path, trials=6, scheduler="asha")
    search_on_ray(record, Lines(), parent=NullTracker(), parallel=2)
    states = [trial.state for trial in record.own_trials()]
    assert len(states) == 6
    assert states.count(TrialState.PRUNED) >= 2
    assert wait_for_resources(60)


def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, without MLflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def search_of(folder: Path, tmp_path: Path, *, trials: int, **settings: Any) -> SearchRecord:
    """A search over rates whose recipe is the shrunk one, its storage in `tmp_path`."""
    config = load_recipe("mining_study", [*SHRUNK, f"data.root={folder / 'data'}"])
    tree = config.model_dump(mode="json")
    tree["evaluation"]["every_epochs"] = 1
    record = new_record(
        sqlite_url(tmp_path),
        f"{settings['scheduler']}{trials}",
        tree=tree,
        sampler="random",
        budget={"trials": trials},
        **settings,
    )
    record.prepare(*space_of(folder, record))
    return record


def space_of(folder: Path, record: SearchRecord) -> tuple[Space, SpaceShape]:
    space = load_space(str(folder / "rate.py"))
    return space, check_space(space, record.settings.tree, source="recipe")
