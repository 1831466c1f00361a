"""The index: built once, kept in one file, mapped afterwards."""

import os
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from mono3d.data.nuscenes_index import NuScenesIndex, open_index
from mono3d.data.nuscenes_tables import read_tables
from mono3d.errors import DataError
from tests.support.nuscenes_tables import VERSION, edit_table, write_tables


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "data")


def test_file_holds_what_the_tables_say(root: Path, tmp_path: Path) -> None:
    index, _ = open_index(root, VERSION, tmp_path)
    expected = read_tables(root, VERSION)
    assert set(expected) == {field.name for field in fields(NuScenesIndex)}
    for name, column in expected.items():
        if isinstance(column, np.ndarray):
            np.testing.assert_array_equal(getattr(index, name), column, err_msg=name)
            assert getattr(index, name).dtype == column.dtype, name
        else:
            assert getattr(index, name) == column, name


def test_index_is_built_once_and_again_when_a_table_changes(root: Path, tmp_path: Path) -> None:
    _, path = open_index(root, VERSION, tmp_path)
    built = path.stat().st_mtime_ns
    _, again = open_index(root, VERSION, tmp_path)
    assert (again, again.stat().st_mtime_ns) == (path, built)
    edit_table(root, "sample_annotation", lambda rows: rows[0].update(num_lidar_pts=123))
    index, changed = open_index(root, VERSION, tmp_path)
    assert changed != path
    assert index.num_points[0] == 123


def test_damaged_file_is_built_again(root: Path, tmp_path: Path) -> None:
    _, path = open_index(root, VERSION, tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    index, _ = open_index(root, VERSION, tmp_path)
    assert index.sample_tokens[0] == b"scene-a-sample-0"


def _open(root: Path, cache: Path) -> int:
    return len(open_index(root, VERSION, cache)[0].categories)


@pytest.mark.slow
def test_processes_that_open_at_once_build_one_index(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with get_context("spawn").Pool(3) as pool:
        counts = pool.starmap(_open, [(root, cache)] * 3)
    assert len(set(counts)) == 1
    assert len(list(cache.glob("*.safetensors"))) == 1
    assert not list(cache.glob("*.partial"))


def test_cache_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="index cannot be written"):
        open_index(root, VERSION, tmp_path / "file")


def test_default_cache_follows_xdg(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", str(tmp_path / "xdg"))
    _, path = open_index(root, VERSION, None)
    assert path.parent == tmp_path / "xdg" / "mono3d"


def test_objects_of_a_sample_are_its_own(root: Path, tmp_path: Path) -> None:
    index, _ = open_index(root, VERSION, tmp_path)
    owned = [index.objects_of(sample) for sample in range(4)]
    assert [part.stop - part.start for part in owned] == [10, 10, 10, 10]
    assert (owned[0].start, owned[-1].stop) == (0, len(index.categories))
    assert index.object_ids[owned[1]].tolist() == list(range(10))
