"""YAML that is more than settings: objects, bombs, endless lists, and what PyYAML stumbles over."""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from mono3d.config.load import load_recipe
from mono3d.data.cameras import read_camera
from mono3d.errors import ConfigError, DataError
from mono3d.search.space_points import _readings

# Ten lines, each nine times the one before.
BOMB = "\n".join(
    ["a: &a x", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghij"))]
)
TEXTS = {
    "an object of Python": "!!python/object/apply:os.system ['touch made']",
    "a name of Python": "!!python/name:os.system",
    "a bomb": f"\n{BOMB}",
    "a list inside of itself": "&a [*a]",
    "a mapping inside of itself": "&a {b: *a}",
    "lists within lists": "[" * 3000,
    "a number of 5000 digits": "9" * 5000,
    "a date that is none": "2001-99-99",
    "a tag that does not fit": "!!timestamp x",
    "two keys of a list": "{[1]: 2}",
}


def recipe(folder: Path, text: str) -> None:
    path = folder / "recipe.yaml"
    indented = text.replace("\n", "\n  ")
    path.write_text(f"data:\n  root: {indented}\n")
    load_recipe(str(path))


def override(folder: Path, text: str) -> None:
    load_recipe("demo", [f"optim.lr={text}"])


def calibration(folder: Path, text: str) -> None:
    path = folder / "camera.yaml"
    path.write_text(f"camera_matrix: {text.replace(chr(10), chr(10) + '  ')}\n")
    read_camera(path)


@pytest.mark.parametrize("read", [recipe, override, calibration])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_it_is_refused_in_a_line_and_at_once(
    text: str, read: Callable[[Path, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    started_s = time.process_time()
    with pytest.raises((ConfigError, DataError)) as caught:
        read(tmp_path, text)
    assert len(str(caught.value).splitlines()) == 1
    assert time.process_time() - started_s < 5
    assert not (tmp_path / "made").exists()


def test_aliases_that_stand_for_little_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {root: x, class_names: &names [car, truck], cameras: *names}\n")
    assert load_recipe(str(path)).data.cameras == ("car", "truck")


def test_a_param_of_mlflow_is_read_as_safely() -> None:
    """What a warm start takes from there may have been written by anybody."""
    for text in TEXTS.values():
        assert _readings(text) == [text]
