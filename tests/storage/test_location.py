"""Files and directories at local and at S3 locations: the same calls, the same results."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mono3d.errors import StorageError
from mono3d.storage import location
from tests.support.web_server import web_server

PLACES = ["path", "file", pytest.param("s3", marks=pytest.mark.services)]
CONTENT = {"a.bin": b"1" * 1000, "b/c.bin": b"", "manifest.json": b"{}"}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty directory of each kind."""
    match request.param:
        case "path":
            return str(tmp_path / "store")
        case "file":
            return (tmp_path / "with space").as_uri()
        case _:
            return f"{request.getfixturevalue('store')}/{request.node.name}"


def _directory(folder: Path) -> Path:
    for name, content in CONTENT.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / "source"


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_directory_comes_back(place: str, tmp_path: Path) -> None:
    location.upload_directory(_directory(tmp_path), place, last="manifest.json")
    assert location.list_files(place) == sorted(CONTENT)
    location.download_directory(place, tmp_path / "copy", last="manifest.json")
    assert _contents(tmp_path / "copy") == CONTENT
    with location.local_copy(place, last="manifest.json") as copy:
        assert _contents(copy) == CONTENT


def test_bytes_existence_and_deletion(place: str) -> None:
    file = location.join(place, "a/b")
    assert not location.exists(file)
    location.write_bytes(file, b"old")
    location.write_bytes(file, b"new")
    assert location.read_bytes(file) == b"new"
    assert location.exists(place)
    location.delete_directory(place)
    assert not location.exists(place)
    location.delete_directory(place)


def test_missing_things_are_named(place: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="a/b"):
        location.read_bytes(location.join(place, "a/b"))
    with pytest.raises(StorageError, match="nothing is stored"):
        location.download_directory(place, tmp_path / "copy")
    with pytest.raises(StorageError, match="nothing is stored"), location.local_copy(place):
        pass


def test_directory_without_its_seal_is_refused(place: str, tmp_path: Path) -> None:
    source = _directory(tmp_path)
    (source / "manifest.json").unlink()
    with pytest.raises(StorageError, match=r"holds no manifest\.json"):
        location.upload_directory(source, place, last="manifest.json")
    location.upload_directory(source, place)
    with pytest.raises(StorageError, match=r"holds no manifest\.json"):
        location.download_directory(place, tmp_path / "copy", last="manifest.json")
    assert not (tmp_path / "copy").exists()


def test_failed_upload_takes_the_old_seal_away(place: str, tmp_path: Path) -> None:
    source = _directory(tmp_path)
    location.upload_directory(source, place, last="manifest.json")
    (source / "b/c.bin").unlink()
    (source / "b/c.bin").symlink_to("/proc/self/mem")  # a file that cannot be read
    with pytest.raises(StorageError, match=r"c\.bin"):
        location.upload_directory(source, place, last="manifest.json")
    assert "manifest.json" not in location.list_files(place)


@pytest.mark.services
def test_interrupted_upload_leaves_no_seal(store: str, tmp_path: Path) -> None:
    source = _directory(tmp_path)
    with (source / "large.bin").open("wb") as stream:
        stream.truncate(512 * 1024**2)
    target = f"{store}/interrupted"
    program = (
        "from pathlib import Path; from mono3d.storage.location import upload_directory\n"
        f"upload_directory(Path({str(source)!r}), {target!r}, last='manifest.json')"
    )
    uploader = subprocess.Popen([sys.executable, "-c", program])
    while "b/c.bin" not in location.list_files(target):
        assert uploader.poll() is None
        time.sleep(0.02)
    uploader.send_signal(signal.SIGKILL)
    uploader.wait()
    assert location.list_files(target) == ["a.bin", "b/c.bin"]


def test_object_that_would_leave_the_directory_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # SeaweedFS refuses such a key; a store that does not, or a hostile one, answers so.
    listing = b"""<ListBucketResult><Name>mono3d</Name>
        <Contents><Key>run/../../outside</Key></Contents></ListBucketResult>"""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    with web_server(listing) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(StorageError, match="outside"):
            location.download_directory("s3://mono3d/run", tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["http://host/a", "file://elsewhere/a", "gs://bucket/a"])
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="is not a location"):
        location.read_bytes(uri)
