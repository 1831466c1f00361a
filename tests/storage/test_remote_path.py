"""Files in a real S3 store, read through a cache."""

import os
import pickle
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from mono3d.errors import StorageError
from mono3d.storage import s3
from mono3d.storage.object_cache import ObjectCache
from mono3d.storage.remote_path import RemotePath
from tests.support.s3_proxy import S3Proxy, s3_proxy

pytestmark = pytest.mark.services


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path / "cache", limit_bytes=10**6)


@pytest.fixture
def folder(store: str, request: pytest.FixtureRequest) -> str:
    """With two files."""
    uri = f"{store}/{request.node.name.replace('[', '-').replace(']', '')}"
    s3.write_bytes(f"{uri}/a.txt", b"first")
    s3.write_bytes(f"{uri}/deep/b.png", b"second")
    return uri


@pytest.fixture
def proxy(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Between the code under test and the store."""
    with s3_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def test_a_path_says_what_and_where_it_is(cache: ObjectCache) -> None:
    path = RemotePath.at("s3://bucket/data/", cache) / "deep" / "b.png"
    assert (path.name, path.stem, path.suffix) == ("b.png", "b", ".png")
    assert str(path) == "s3://bucket/data/deep/b.png"
    assert str(RemotePath.at("s3://bucket", cache) / "a/b") == "s3://bucket/a/b"
    with pytest.raises(StorageError, match="is not an S3 URI"):
        RemotePath.at("s3:/bucket/data", cache)


def test_files_and_folders_are_told_apart(folder: str, cache: ObjectCache) -> None:
    root = RemotePath.at(folder, cache)
    kinds = {
        name: ((root / name).is_file(), (root / name).is_dir())
        for name in ("a.txt", "deep", "deep/b.png", "a", "none/a")
    }
    assert kinds == {
        "a.txt": (True, False),
        "deep": (False, True),
        "deep/b.png": (True, False),
        "a": (False, False),
        "none/a": (False, False),
    }
    assert root.is_dir()
    assert RemotePath.at(f"{folder}/a.txt", cache).is_file()


def test_a_file_is_fetched_once(folder: str, cache: ObjectCache, proxy: S3Proxy) -> None:
    root = RemotePath.at(folder, cache)
    for _ in range(3):
        assert (root / "a.txt").read_bytes() == b"first"
        assert (root / "deep" / "b.png").read_bytes() == b"second"
    assert len(proxy.reads) == 2
    assert len(proxy.listings) == 2
    assert (RemotePath.at(folder, cache) / "a.txt").read_bytes() == b"first"
    assert (len(proxy.reads), len(proxy.listings)) == (2, 3)


def test_without_room_every_read_fetches(folder: str, tmp_path: Path, proxy: S3Proxy) -> None:
    path = RemotePath.at(folder, ObjectCache(tmp_path, limit_bytes=0)) / "a.txt"
    assert [path.read_bytes() for _ in range(3)] == [b"first"] * 3
    assert len(proxy.reads) == 3


def test_what_is_missing_is_known_without_asking(
    folder: str, cache: ObjectCache, proxy: S3Proxy
) -> None:
    root = RemotePath.at(folder, cache)
    for name in ("b.txt", "c.txt"):
        with pytest.raises(FileNotFoundError, match=rf"No such file .*{folder}/{name}"):
            (root / name).read_bytes()
    assert (len(proxy.reads), len(proxy.listings)) == (0, 1)


def test_a_changed_object_is_read_anew(folder: str, cache: ObjectCache) -> None:
    old = RemotePath.at(folder, cache) / "a.txt"
    assert old.read_bytes() == b"first"
    before = old.content_digest
    s3.write_bytes(f"{folder}/a.txt", b"FIRST")
    new = RemotePath.at(folder, cache) / "a.txt"
    assert new.content_digest != before
    assert new.read_bytes() == b"FIRST"


def test_an_object_that_changes_after_listing_is_not_kept_as_the_old_one(
    folder: str, cache: ObjectCache
) -> None:
    path = RemotePath.at(folder, cache) / "a.txt"
    assert path.is_file()
    s3.write_bytes(f"{folder}/a.txt", b"FIRST")
    assert path.read_bytes() == b"FIRST"
    s3.write_bytes(f"{folder}/a.txt", b"first")  # as it was listed
    assert path.read_bytes() == b"first"
    s3.delete(f"{folder}/a.txt")
    assert path.read_bytes() == b"first"  # from the cache
    other = RemotePath.at(folder, cache) / "deep" / "b.png"
    assert other.is_file()
    s3.delete(f"{folder}/deep/b.png")
    with pytest.raises(FileNotFoundError, match=r"deep/b\.png"):
        other.read_bytes()


def test_equal_names_in_other_stores_are_other_contents(
    folder: str, cache: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = RemotePath.at(folder, cache) / "a.txt"
    here = path.content_digest
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elsewhere")
    assert path.content_digest != here


def test_an_answer_cut_short_is_asked_for_again(
    folder: str, cache: ObjectCache, proxy: S3Proxy
) -> None:
    proxy.num_to_cut = 2
    assert (RemotePath.at(folder, cache) / "a.txt").read_bytes() == b"first"
    assert len(proxy.reads) == 3


def test_answers_that_are_always_cut_short_are_an_error(
    folder: str, cache: ObjectCache, proxy: S3Proxy
) -> None:
    proxy.num_to_cut = 100
    path = RemotePath.at(folder, cache) / "a.txt"
    with pytest.raises(StorageError, match=r"cannot read s3://.*a\.txt .* the connection was cut"):
        path.read_bytes()
    proxy.num_to_cut = 0
    assert path.read_bytes() == b"first"


def test_a_pickled_path_knows_what_was_listed(
    folder: str, cache: ObjectCache, proxy: S3Proxy
) -> None:
    path = RemotePath.at(folder, cache) / "a.txt"
    assert path.is_file()
    again = pickle.loads(pickle.dumps(path))
    assert again.read_bytes() == b"first"
    assert len(proxy.listings) == 1


def _read_twice(root: RemotePath, clients: Any) -> None:
    path = root / "a.txt"
    clients.put((id(s3.connect()), path.read_bytes() + path.read_bytes()))


def test_a_forked_process_has_connections_of_its_own(folder: str, tmp_path: Path) -> None:
    """Its parent's would bring it the answers to its siblings."""
    root = RemotePath.at(folder, ObjectCache(tmp_path, limit_bytes=0))
    assert (root / "a.txt").read_bytes() == b"first"
    client = s3.connect()
    assert s3.connect() is client
    context = get_context("fork")
    clients = context.Queue()
    children = [context.Process(target=_read_twice, args=(root, clients)) for _ in range(2)]
    for child in children:
        child.start()
    for _ in children:
        other, content = clients.get(timeout=60)
        assert other != id(client)
        assert content == b"firstfirst"
    for child in children:
        child.join()
