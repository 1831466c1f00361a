import json
from pathlib import Path

import pytest

from mono3d.data.synthetic.folder import RECORD_NAME, Contents, write_once
from mono3d.errors import DataError

CONTENTS: Contents = {"num_samples": {"train": 2}, "num_images": 2, "num_labels": {"Car": 3}}
SETTINGS = {"seed": 1, "image_size": [4, 2]}


def _write(folder: Path) -> Contents:
    (folder / "frame.txt").write_text("a frame")
    return CONTENTS


def _never(folder: Path) -> Contents:
    raise AssertionError(f"{folder} is written again")


def test_a_folder_is_written_once_and_then_found(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "data"
    written = write_once(root, SETTINGS, _write)
    assert written.is_new
    assert (written.root, written.num_images) == (root, 2)
    assert sorted(path.name for path in root.iterdir()) == ["frame.txt", RECORD_NAME]
    found = write_once(root, SETTINGS, _never)
    assert not found.is_new
    assert found.num_labels == {"Car": 3}
    assert json.loads((root / RECORD_NAME).read_text()) == {
        "settings": SETTINGS, "summary": CONTENTS
    }  # fmt: skip


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert write_once(tmp_path / "data", SETTINGS, _write).is_new


def test_other_settings_are_refused_in_one_line(tmp_path: Path) -> None:
    write_once(tmp_path / "data", SETTINGS, _write)
    with pytest.raises(DataError, match=r"synthetic\.json.*\"seed\": 1.*\"seed\": 2") as error:
        write_once(tmp_path / "data", SETTINGS | {"seed": 2}, _never)
    assert "\n" not in str(error.value)


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match="not empty"):
        write_once(tmp_path, SETTINGS, _never)
    assert (tmp_path / "thesis.tex").exists()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> Contents:
        _write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_once(tmp_path / "data", SETTINGS, fail)
    assert list(tmp_path.iterdir()) == []
