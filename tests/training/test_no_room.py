"""A store whose disk is full: what is there can be read, what is refused is seen nowhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mono3d.errors import StorageAwayError, StorageError
from mono3d.services.s3_server import S3Server
from mono3d.storage import patience
from mono3d.storage.s3 import ensure_bucket
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.stored_run import OPERATIONS, Run

pytestmark = pytest.mark.slow

TAKES_ROOM = {"upload", "register", "close"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def in_a_bucket(disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Of a server that has this disk alone."""
    monkeypatch.setattr(patience, "WAITS_S", (0.02,))
    server = S3Server(disk.folder / "s3")
    try:
        for name, value in server.environment(server.start().url).items():
            monkeypatch.setenv(name, value)
        ensure_bucket("s3://small")
        yield Run("s3://small/run", tmp_path).begin()
    finally:
        server.stop()


@pytest.fixture
def in_a_folder(disk: SmallDisk, tmp_path: Path) -> Run:
    return Run(str(disk.folder / "run"), tmp_path).begin()


def test_a_server_without_room(in_a_bucket: Run, disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(StorageAwayError, match=r"the store itself failed; look at .* disk space"):
        OPERATIONS["upload"](in_a_bucket)
    (waited,) = in_a_bucket.lines
    assert "trying again in" in waited
    in_a_bucket.assert_nothing_is_lost()
    disk.make_room()
    OPERATIONS["upload"](in_a_bucket)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_folder_without_room(operation: str, in_a_folder: Run, disk: SmallDisk) -> None:
    before = {path for path in disk.folder.rglob("*") if path.is_file()}
    disk.fill()
    if operation in TAKES_ROOM:
        with pytest.raises(StorageError, match="No space left on device") as caught:
            OPERATIONS[operation](in_a_folder)
        assert len(str(caught.value).splitlines()) == 1
        assert {path for path in disk.folder.rglob("*") if path.is_file()} == before
    else:
        OPERATIONS[operation](in_a_folder)
    in_a_folder.assert_nothing_is_lost()
    disk.make_room()
    OPERATIONS[operation](in_a_folder)
