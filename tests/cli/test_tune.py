"""`mono3d tune` and `mono3d studies` up to the first trial; trials are in tests/integration."""

import sys
from pathlib import Path

import optuna
import pytest

from mono3d.cli.main import main
from mono3d.cli.tune import _settings
from mono3d.config.load import load_recipe
from mono3d.search.database import open_database
from mono3d.search.record import SearchRecord, create_search, open_search
from mono3d.search.runs import check_search
from mono3d.search.space import load_space
from tests.support.kitti_folder import write_kitti
from tests.support.searches import new_record, settings, sqlite_url

SPACE = """
\"\"\"Which learning rate?\"\"\"

METRIC, MODE = "val/centers_depth_abs_rel", "min"


def space(trial):
    trial.suggest_float("optim.lr", 1e-4, 1e-2, log=True)
    if trial.suggest_categorical("mining.kind", ["none", "gmm"]) == "gmm":
        trial.suggest_float("mining.sharpness", 1.0, 8.0)
    return {}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with data and a space."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MONO3D_SEARCHES", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_kitti(tmp_path / "data")
    (tmp_path / "rate.py").write_text(SPACE)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mono3d", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


RECIPE = ("kitti_overfit", "data.root=data", "--space", "rate.py")


def test_a_dry_run_shows_the_space_and_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "tune", *RECIPE, "--trials", "9", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "optim.lr" in shown
    assert "mining.sharpness" in shown
    assert "9 trials of kitti_overfit, tpe and asha, 1 seed(s)" in shown
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs RECIPE and --space FILE, or --resume NAME"),
        (("kitti_overfit",), "needs RECIPE and --space FILE"),
        (("nothing", "--space", "rate.py"), "recipe 'nothing': neither a file nor a shipped"),
        (("kitti_overfit", "--space", "none.py"), "space none.py: no such file"),
        ((*RECIPE, "optim.rate=1"), "unknown key optim.rate"),
        ((*RECIPE, "data.root=nowhere"), "nowhere"),
        ((*RECIPE, "--sampler", "magic"), "sampler: Input should be 'tpe'"),
        ((*RECIPE, "--sampler", "cmaes"), "--sampler cmaes: needs a flat space"),
        ((*RECIPE, "--scheduler", "magic"), "scheduler: Input should be 'asha'"),
        ((*RECIPE, "--gpu-hours", "2", "cluster.gpus_per_worker=0"), "a trial has no GPU"),
        ((*RECIPE, "--hours", "-1"), "budget.hours: "),
        ((*RECIPE, "--objective", "val/nuscenes_map"), "val/nuscenes_map"),
        (
            (
                *RECIPE,
                "--objective",
                "val/a:min",
                "--objective",
                "val/b:max",
                "--scheduler",
                "asha",
            ),
            "with several objectives no trial is stopped early",
        ),
        ((*RECIPE, "--name", "no/folder"), "run name 'no/folder"),
        ((*RECIPE, "--database", "mysql://host/x"), "mysql is neither sqlite nor postgresql"),
        ((*RECIPE, "--warm-start", "nobody"), "--warm-start nobody: the database has no such"),
        ((*RECIPE, "--warm-start-mlflow", ""), "needs MLFLOW_TRACKING_URI"),
        ((*RECIPE, "--grace-epochs", "900"), "so asha would stop none; take fewer, or --scheduler"),
        (("--resume", "nobody"), "there are no searches"),
        ((*RECIPE, "--resume", "nobody"), "is fixed since search nobody began"),
        (("--resume", "nobody", "--seed", "3"), "--seed: is fixed since search nobody began"),
        (("--resume", "nobody", "--dry-run"), "--dry-run: is fixed since search nobody began"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_what_is_wrong_is_one_line_before_the_first_trial(
    arguments: tuple[str, ...],
    message: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "tune", *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.startswith("mono3d: ")
    assert "\n" not in said
    database = here / "runs" / "searches.db"
    assert not database.exists() or not optuna.get_all_study_names(f"sqlite:///{database}")


def test_a_search_does_not_go_on_in_another_space(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs").mkdir()
    begun = settings(space="rate.py", space_digest="of another text")
    create_search(open_database(sqlite_url(here / "runs"), creates=True), "mine", begun)
    assert call(monkeypatch, "tune", "--resume", "mine", "--trials", "9") == 2
    said = capsys.readouterr().err
    assert "rate.py: has changed since search mine began" in said
    record = open_search(open_database(sqlite_url(here / "runs"), creates=False), "mine")
    assert record.settings.budget.trials == 6


def test_a_search_does_not_go_on_in_another_environment(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SPACE.replace("return {}", 'return {"distillation.teacher": os.environ.get("TEACHER")}')
    (here / "rate.py").write_text(f"{text.strip()}\n".replace("METRIC", "import os\nMETRIC", 1))
    monkeypatch.setenv("TEACHER", "runs/one")
    monkeypatch.setattr("mono3d.search.runs.search_on_ray", interrupted)
    taught = (*RECIPE, "distillation={kind: add, teacher: runs/none}", "--name", "mine")
    assert call(monkeypatch, "tune", *taught) == 130
    assert call(monkeypatch, "tune", "--resume", "mine") == 130
    monkeypatch.setenv("TEACHER", "runs/another")
    capsys.readouterr()
    assert call(monkeypatch, "tune", "--resume", "mine") == 2
    assert "rate.py: says something else than when the search began" in capsys.readouterr().err


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_runs_of_another_search_are_not_adopted(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "runs" / "mine-0000"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    assert call(monkeypatch, "tune", *RECIPE, "--name", "mine") == 2
    assert "mine-0000: is there already, as of a search mine in another" in capsys.readouterr().err


def test_a_budget_that_cannot_be_is_not_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs").mkdir()
    url = sqlite_url(here / "runs")
    space = load_space("rate.py")
    config = load_recipe("kitti_overfit", ["data.root=data", "cluster.gpus_per_worker=0"])
    begun = settings(
        space="rate.py", space_digest=space.digest, tree=config.model_dump(mode="json")
    )
    create_search(open_database(url, creates=True), "mine", begun)
    assert call(monkeypatch, "tune", "--resume", "mine", "--gpu-hours", "2") == 2
    assert "so a trial has no GPU" in capsys.readouterr().err
    assert open_search(open_database(url, creates=False), "mine").settings.budget == begun.budget


def test_a_password_is_not_in_the_settings(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mono3d", "tune", "postgresql://me:a-secret-word@h/n"])
    space = load_space("rate.py")
    made = _settings("kitti_overfit", ["data.root=data"], space, space.objectives, {}, {})
    assert "a-secret-word" not in made.model_dump_json()


def test_searches_are_listed_shown_and_compared(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (here / "runs").mkdir()
    for name, value in (("first", 0.25), ("second", 0.125)):
        record = new_record(sqlite_url(here / "runs"), name)
        proposal = record.propose()
        assert proposal is not None
        record.finish(proposal.number, [[value]], run=f"{name}-0000", checkpoint="there")
    optuna.create_study(storage=sqlite_url(here / "runs"), study_name="another program's")
    assert call(monkeypatch, "studies", "list") == 0
    listed = capsys.readouterr().out
    assert "first" in listed
    assert "0.1250" in listed
    assert "another program's" not in listed
    assert call(monkeypatch, "studies", "show", "second", "-o", "shown") == 0
    shown = capsys.readouterr().out
    assert "second-0000" in shown
    assert (here / "shown" / "report.md").exists()
    assert (here / "shown" / "best.yaml").exists()
    assert call(monkeypatch, "studies", "compare", "first", "second") == 0
    compared = capsys.readouterr().out
    assert "0.2500" in compared
    assert "0.1250" in compared
    for names, message in (
        (("first",), "needs two searches or more"),
        (("first", "nobody"), "search nobody: is not in the database"),
    ):
        assert call(monkeypatch, "studies", "compare", *names) == 2
        assert message in capsys.readouterr().err
    new_record(sqlite_url(here / "runs"), "other", objectives={"val/nuscenes_map": "max"})
    assert call(monkeypatch, "studies", "compare", "first", "other") == 2
    assert (
        "searches for val/centers_depth_abs_rel, and not all others do" in capsys.readouterr().err
    )


def test_a_search_that_was_killed_before_its_first_trial_begins_as_it_was_asked_to(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Warm starts are still to come, and the recipe is still the first trial."""
    begun: list[tuple[str, list[str], list[dict[str, object]]]] = []

    def stop(record: SearchRecord, *_: object, **__: object) -> None:
        trials = record.study.get_trials(deepcopy=False)
        known = [str(trial.user_attrs.get("imported")) for trial in trials]
        begun.append((record.name, known, [dict(trial.params) for trial in trials]))
        raise KeyboardInterrupt

    (here / "runs").mkdir()
    url = sqlite_url(here / "runs")
    earlier = search_of_rates(url, "earlier")
    proposal = earlier.propose()
    assert proposal is not None
    earlier.finish(proposal.number, [[0.25]], run="earlier-0000", checkpoint="there")
    monkeypatch.setattr("mono3d.search.runs.search_on_ray", stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mono3d.search.runs.take_over", interrupted)
        arguments = (*RECIPE, "--name", "mine", "--warm-start", "earlier")
        assert call(monkeypatch, "tune", *arguments) == 130
    assert begun == []
    for _ in range(2):
        assert call(monkeypatch, "tune", "--resume", "mine") == 130
    said = capsys.readouterr()
    assert said.out.count("warm start: 1 results of earlier") == 1
    name, known, params = begun[0]
    assert (name, known) == ("mine", ["None", "earlier #0"])
    assert params[1] == proposal.settings
    assert begun[1] == begun[0]


def search_of_rates(url: str, name: str) -> SearchRecord:
    """Over the space in this folder."""
    space = load_space("rate.py")
    config = load_recipe("kitti_overfit", ["data.root=data"])
    tree = {**config.model_dump(mode="json"), "evaluation": {"every_epochs": 1}}
    made = settings(space="rate.py", space_digest=space.digest, tree=tree)
    record = create_search(open_database(url, creates=True), name, made)
    record.prepare(space, check_search(made, space, is_new=True))
    return record
