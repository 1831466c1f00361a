"""Tables in a real store: copied once, anew when they change, refused in words."""

import json
from multiprocessing import get_context
from pathlib import Path

import pytest

from mono3d.data.files import data_path
from mono3d.data.nuscenes_fetch import local_tables
from mono3d.errors import DataError
from mono3d.storage import s3
from mono3d.storage.location import upload_directory
from tests.support.nuscenes_tables import TABLES, VERSION, write_tables

pytestmark = pytest.mark.services


@pytest.fixture
def uri(
    stack_environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Tables and map of the tiny folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_tables(tmp_path / "data")
    uri = f"s3://mono3d/fetch/{tmp_path.name}"
    for part in (VERSION, "maps"):
        upload_directory(root / part, f"{uri}/{part}")
    return uri


def test_a_local_folder_is_its_own_copy(tmp_path: Path) -> None:
    assert local_tables(tmp_path, VERSION, None) == tmp_path


def test_tables_and_maps_are_copied_once(uri: str, tmp_path: Path) -> None:
    copy = local_tables(data_path(uri), VERSION, None)
    assert copy.parent == tmp_path / "cache" / "mono3d"
    files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    tables = {f"{VERSION}/{name}.json" for name in (*TABLES, "splits")}
    assert files == tables | {"maps/map.png"}
    assert all((copy / n).read_bytes() == (tmp_path / "data" / n).read_bytes() for n in files)
    (copy / "mark").touch()
    assert local_tables(data_path(uri), VERSION, None) == copy
    assert (copy / "mark").exists()


def test_a_changed_table_is_another_copy(uri: str, tmp_path: Path) -> None:
    before = local_tables(data_path(uri), VERSION, tmp_path)
    s3.write_bytes(f"{uri}/{VERSION}/splits.json", b'{"mine": ["scene-a"]}')
    after = local_tables(data_path(uri), VERSION, tmp_path)
    assert before != after
    assert json.loads((after / VERSION / "splits.json").read_text()) == {"mine": ["scene-a"]}


def test_what_a_killed_copy_left_is_done_again(uri: str, tmp_path: Path) -> None:
    copy = local_tables(data_path(uri), VERSION, tmp_path)
    part = copy.with_suffix(".partial")
    copy.rename(part)
    (part / VERSION / "sample.json").write_text("[{")
    (part / "stray").touch()
    assert local_tables(data_path(uri), VERSION, tmp_path) == copy
    assert json.loads((copy / VERSION / "sample.json").read_text())
    assert not (copy / "stray").exists()
    assert not part.exists()


def _fetch(uri: str, folder: Path) -> str:
    copy = local_tables(data_path(uri), VERSION, folder)
    return (copy / VERSION / "sample.json").read_text()


@pytest.mark.slow
def test_processes_that_open_at_once_copy_the_same(uri: str, tmp_path: Path) -> None:
    with get_context("spawn").Pool(3) as pool:
        texts = pool.starmap(_fetch, [(uri, tmp_path / "shared")] * 3)
    assert len(set(texts)) == 1
    assert len([path for path in (tmp_path / "shared").iterdir() if path.is_dir()]) == 1


def test_what_is_missing_is_named_by_its_uri(uri: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        local_tables(data_path(uri), "v1.0-mini", tmp_path)
    assert str(caught.value) == (
        f"{uri}/v1.0-mini: no such nuScenes version; in {uri}: ['{VERSION}']"
    )
    s3.delete(f"{uri}/maps/map.png")
    with pytest.raises(DataError, match=rf"^{uri}/maps/map\.png: cannot be read \(No such file"):
        local_tables(data_path(uri), VERSION, tmp_path)
    s3.delete(f"{uri}/{VERSION}/ego_pose.json")
    with pytest.raises(DataError, match=rf"^{uri}/{VERSION}/ego_pose\.json: table is missing"):
        local_tables(data_path(uri), VERSION, tmp_path)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("{", "not a table of maps"),
        ('[{"file": 1}]', "not a table of maps"),
        ('[{"filename": "../../stolen"}]', "'../../stolen' lies outside the data set"),
        ('[{"filename": "/etc/stolen"}]', "'/etc/stolen' lies outside the data set"),
    ],
)
def test_a_table_of_maps_that_is_none_is_refused(
    uri: str, tmp_path: Path, table: str, said: str
) -> None:
    s3.write_bytes(f"{uri}/{VERSION}/map.json", table.encode())
    with pytest.raises(DataError, match=rf"/map\.json: {said}"):
        local_tables(data_path(uri), VERSION, tmp_path)


def test_a_place_that_cannot_be_written_is_named(uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/nuscenes-.*: tables cannot be written \("):
        local_tables(data_path(uri), VERSION, tmp_path / "file")
