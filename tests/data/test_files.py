"""Files of a data set: the same calls for a folder and for a store."""

from pathlib import Path

import pytest

from mono3d.data.files import (
    DataPath,
    data_path,
    list_ahead,
    list_folders,
    list_names,
    read_bytes,
    read_each,
    read_text,
)
from mono3d.errors import DataError, StorageError
from mono3d.storage import s3
from mono3d.storage.location import upload_directory
from mono3d.storage.remote_path import RemotePath

CONTENTS = {"b.txt": b"second", "a.txt": b"first", "deep/c.bin": b"\xff", "deeper/d.bin": b""}


@pytest.fixture(params=["path", "file", pytest.param("s3", marks=pytest.mark.services)])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> DataPath:
    """The same files at a place of each kind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    local = tmp_path / "with space"
    for name, content in CONTENTS.items():
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(content)
    match request.param:
        case "path":
            return data_path(local)
        case "file":
            return data_path(local.as_uri())
        case _:
            request.getfixturevalue("stack_environ")
            upload_directory(local, "s3://mono3d/data-files")
            return data_path("s3://mono3d/data-files/")


def test_contents_and_names(folder: DataPath) -> None:
    assert list_names(folder) == ["a.txt", "b.txt"]
    assert list_folders(folder) == ["deep", "deeper"]
    assert list_names(folder / "none") == list_folders(folder / "none") == []
    assert list_names(folder / "a.txt") == []
    list_ahead([folder, folder / "deep", folder / "none"])
    paths = [folder / name for name in CONTENTS]
    assert read_each(read_bytes, paths) == list(CONTENTS.values())
    assert read_each(read_bytes, []) == []
    assert read_text(folder / "a.txt") == "first"


def test_what_cannot_be_read_is_one_line_with_its_place(folder: DataPath) -> None:
    for name in ("none.txt", "none/a.txt"):
        with pytest.raises(DataError) as caught:
            read_bytes(folder / name)
        assert str(caught.value) == f"{folder / name}: cannot be read (No such file or directory)"
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        read_each(read_bytes, [folder / "a.txt", folder / "none.txt"])
    with pytest.raises(DataError, match=r"c\.bin: not a text file \(byte 0\)"):
        read_text(folder / "deep" / "c.bin")


def test_other_uris_are_refused() -> None:
    with pytest.raises(StorageError, match="use a path, file:// or s3://"):
        data_path("gs://bucket/data")


@pytest.mark.services
def test_the_limit_of_the_cache_is_in_gib(
    stack_environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    s3.write_bytes("s3://mono3d/data-limit/a", bytes(2 * 1024**2))
    for cache_gib, kept in ((0.0, 0), (1 / 1024, 0), (1.0, 1)):
        path = data_path("s3://mono3d/data-limit/a", cache_gib=cache_gib)
        assert isinstance(path, RemotePath)
        assert len(read_bytes(path)) == 2 * 1024**2
        assert len(list((tmp_path / "mono3d" / "objects").glob("*/*"))) == kept
