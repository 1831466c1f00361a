"""Files of search spaces: what they declare, what is said of mistakes, what a trial changes."""

import hashlib
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from mono3d.errors import ConfigError
from mono3d.search.space import (
    Objective,
    Suggest,
    TrialLike,
    load_space,
    objectives_of,
    overrides_of,
)
from mono3d.search.space_walk import ScriptedTrial

FILE = '''"""Which learning rate?

Thirty trials,
in two hours.
"""

METRIC, MODE = "val/nuscenes_nds", "max"


def space(trial):
    trial.suggest_float("optim.lr", 1e-4, 1e-2, log=True)
    return {"optim.kind": "adamw"}
'''
HEAD = 'METRIC, MODE = "val/nuscenes_map", "max"\n'
DRAW = "def space(trial):\n    return {}\n"


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def new_trial() -> optuna.Trial:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()


def message_of(folder: Path, text: str) -> str:
    """What is said of a file, without its folder."""
    with pytest.raises(ConfigError) as caught:
        overrides_of(load_space(write(folder, text)), new_trial())
    return str(caught.value).replace(f"{folder}/", "")


def test_a_file_is_read(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, FILE))
    assert space.about == "Which learning rate?"
    assert space.objectives == (Objective(metric="val/nuscenes_nds", mode="max"),)
    assert space.source == str(tmp_path / "mine.py")
    assert space.digest == hashlib.sha256(FILE.encode()).hexdigest()
    trial = new_trial()
    overrides = overrides_of(space, trial)
    assert overrides == [("optim.kind", "adamw"), ("optim.lr", trial.params["optim.lr"])]


def test_several_objectives_keep_their_order(tmp_path: Path) -> None:
    text = 'OBJECTIVES = {"val/nuscenes_map": "max", "val/centers_depth_abs_rel": "min"}\n' + DRAW
    assert load_space(write(tmp_path, text)).objectives == (
        Objective(metric="val/nuscenes_map", mode="max"),
        Objective(metric="val/centers_depth_abs_rel", mode="min"),
    )


def test_a_first_paragraph_of_several_lines_is_one_line_and_none_is_empty(tmp_path: Path) -> None:
    assert load_space(write(tmp_path, '"""A\nb."""\n' + HEAD + DRAW)).about == "A b."
    assert load_space(write(tmp_path, HEAD + DRAW)).about == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "space mine.py: has no function space(trial)"),
        (HEAD + "space = 3", "space mine.py: has no function space(trial)"),
        (DRAW, "space mine.py: has no METRIC; must have METRIC and MODE or OBJECTIVES"),
        (
            'METRIC = "val/x"\n' + DRAW,
            "space mine.py: has no MODE; must have METRIC and MODE or OBJECTIVES",
        ),
        (
            'METRIC, MODE = "val/x", "more"\n' + DRAW,
            "space mine.py: mode 'more' of val/x: must be min or max",
        ),
        (
            'METRIC, MODE = 3, "max"\n' + DRAW,
            "space mine.py: metric 3: must be a name, such as val/nuscenes_map",
        ),
        (
            'METRIC, MODE = "val/", "max"\n' + DRAW,
            "space mine.py: metric 'val/': must be a name, such as val/nuscenes_map",
        ),
        (
            'METRIC, MODE = "loss/depth", "min"\n' + DRAW,
            "space mine.py: metric loss/depth: must be of validation, begin with val/",
        ),
        (
            HEAD + 'OBJECTIVES = {"val/x": "max"}\n' + DRAW,
            "space mine.py: has METRIC and OBJECTIVES; one or the other",
        ),
        (
            "OBJECTIVES = {}\n" + DRAW,
            "space mine.py: OBJECTIVES={}: must be a dict of one metric or more → min or max",
        ),
        (
            'OBJECTIVES = {"val/x": None}\n' + DRAW,
            "space mine.py: mode None of val/x: must be min or max",
        ),
        (
            HEAD + "\ndef space(trial)\n",
            "space mine.py, line 3: SyntaxError: expected ':'",
        ),
        (
            HEAD + "x = 1\ny = [\n    1 /\n    0]\n" + DRAW,
            "space mine.py, line 4: ZeroDivisionError: division by zero",
        ),
        ("import sys\nsys.exit(1)\n", "space mine.py, line 2: SystemExit: 1"),
        (
            HEAD + "def space(trial):\n    raise KeyError('a\\nb')\n",
            "space mine.py, line 3: KeyError: 'a\\nb'",
        ),
        (
            HEAD + "def space(trial):\n    trial.suggest_float('optim.lr', 2, 1)\n",
            "space mine.py, line 3: ValueError: `low <= high` must hold, but got (low=2, high=1).",
        ),
        (
            HEAD + "def space(trial):\n    raise StopIteration\n",
            "space mine.py, line 3: StopIteration",
        ),
        (
            HEAD + "def space():\n    return {}\n",
            "space mine.py: TypeError: space() takes 0 positional arguments but 1 was given",
        ),
        (
            HEAD + "def space(trial):\n    pass\n",
            "space mine.py: space(trial) must return a dict of what is fixed, config path → value, "
            "{} for nothing; it returned None",
        ),
        (
            HEAD + "def space(trial):\n    return {1: 2}\n",
            "space mine.py: space(trial) must return a dict of what is fixed, config path → value, "
            "{} for nothing; it returned {1: 2}",
        ),
        (
            HEAD + "def space(trial):\n"
            "    return {'optim.lr': trial.suggest_float('optim.lr', 0.1, 1)}\n",
            "space mine.py: optim.lr: is suggested, and optim.lr is returned as fixed; one or the "
            "other",
        ),
        (
            HEAD + "def space(trial):\n"
            "    trial.suggest_float('optim.lr', 0.1, 1)\n    return {'optim': {}}\n",
            "space mine.py: optim.lr: is suggested, and optim is returned as fixed; one or the "
            "other",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    said = message_of(tmp_path, text)
    assert said == message
    assert "\n" not in said


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^space mining: no such file$"):
        load_space("mining")
    (tmp_path / "tune_spaces").mkdir()
    write(tmp_path / "tune_spaces", "", "optim.py")
    write(tmp_path / "tune_spaces", "", "mining.py")
    hint = r"no such file; there are tune_spaces/mining.py, tune_spaces/optim.py$"
    with pytest.raises(ConfigError, match=hint):
        load_space("mining")


def test_a_file_that_is_no_python_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml: must be a Python file, \.py$"):
        load_space(write(tmp_path, "", "recipe.yaml"))
    (tmp_path / "latin.py").write_bytes(b"x = '\xe4'")
    with pytest.raises(ConfigError, match=r"latin\.py: cannot be read \('utf-8' codec can't"):
        load_space(str(tmp_path / "latin.py"))
    (tmp_path / "null.py").write_bytes(b"x = 1\0")
    with pytest.raises(ConfigError, match=r"null\.py: SyntaxError: source code string cannot"):
        load_space(str(tmp_path / "null.py"))


def test_files_of_one_name_do_not_meet_and_none_stays_imported(tmp_path: Path) -> None:
    """Data classes of a file need its module while they are made, in every form of annotation."""
    before = set(sys.modules)
    spaces = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        text = (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n"
            "from typing import ClassVar\n"
            f"{HEAD}@dataclass\nclass Which:\n    number: int = {number}\n"
            "    other: ClassVar[int] = 0\n"
            "def space(trial):\n    return {'loss.depth': Which().number}\n"
        )
        spaces.append(load_space(write(tmp_path / str(number), text)))
    assert [dict(space.draw(ScriptedTrial(lambda *_: 0))) for space in spaces] == [
        {"loss.depth": 1},
        {"loss.depth": 2},
    ]
    assert not {name for name in set(sys.modules) - before if "space" in name}
    with pytest.raises(pickle.PicklingError):  # not by a name that another process cannot import
        pickle.dumps(spaces[0].draw)


def test_a_file_may_put_others_together_and_its_digest_knows_them(tmp_path: Path) -> None:
    part = write(tmp_path, FILE, "part.py")
    whole = write(
        tmp_path,
        "from pathlib import Path\nfrom mono3d.search.space import load_space\n"
        "PART = load_space(str(Path(__file__).with_name('part.py')))\n"
        f"{HEAD}def space(trial):\n    return {{**PART.draw(trial), 'loss.depth': 2.0}}\n",
    )
    space = load_space(whole)
    fixed = [("optim.kind", "adamw"), ("loss.depth", 2.0)]
    assert overrides_of(space, new_trial())[:2] == fixed
    write(tmp_path, FILE.replace("1e-4", "2e-4"), "part.py")
    assert load_space(whole).digest not in {space.digest, load_space(part).digest}
    write(tmp_path, "x = 1 / 0", "part.py")
    with pytest.raises(ConfigError, match=r"part\.py, line 1: ZeroDivisionError"):
        load_space(whole)


def test_an_unreachable_database_is_no_fault_of_the_space(tmp_path: Path) -> None:
    def fail(name: str, distribution: Any) -> Any:
        raise optuna.exceptions.StorageInternalError("the database is away")

    with pytest.raises(optuna.exceptions.StorageInternalError):
        overrides_of(load_space(write(tmp_path, FILE)), ScriptedTrial(fail))


def test_objectives_of_the_command_line() -> None:
    texts = ["val/nuscenes_map:max", "val/a:b/depth:min"]
    assert objectives_of(texts) == (
        Objective(metric="val/nuscenes_map", mode="max"),
        Objective(metric="val/a:b/depth", mode="min"),
    )
    assert objectives_of([]) == ()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["val/nuscenes_map"],
            "--objective val/nuscenes_map: must be METRIC:MODE, such as val/nuscenes_map:max",
        ),
        (["val/x:most"], "--objective: mode 'most' of val/x: must be min or max"),
        (["x:max"], "--objective: metric x: must be of validation, begin with val/"),
        ([":max"], "--objective: metric '': must be a name, such as val/nuscenes_map"),
        (["val/x:max", "val/x:min"], "--objective val/x:min: val/x is there twice"),
    ],
)
def test_objectives_that_are_none(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        objectives_of(texts)


def test_optuna_trials_and_scripted_ones_are_what_a_space_asks() -> None:
    fixed = optuna.trial.FixedTrial({"optim.lr": 1e-3})
    for trial in (new_trial(), fixed, ScriptedTrial(lambda *_: 0)):
        assert isinstance(trial, Suggest)
        assert isinstance(trial, TrialLike)
