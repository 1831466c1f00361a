"""Objects in a real S3 store, and what is said when it cannot be used."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mono3d.errors import StorageError
from mono3d.storage import s3
from mono3d.storage.digests import PART_BYTES, sha256
from tests.conftest import READER_KEY, READER_SECRET
from tests.support.web_server import web_server

pytestmark = pytest.mark.services


@contextmanager
def failure(*words: str) -> Iterator[None]:
    """A StorageError of one line with these words, without the secret, within 10 seconds."""
    start = time.monotonic()
    with pytest.raises(StorageError) as caught:
        yield
    assert time.monotonic() - start < 10
    line = str(caught.value)
    assert "\n" not in line
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "no secret") not in line
    for word in words:
        assert word in line


def test_bytes_come_back(store: str) -> None:
    s3.write_bytes(f"{store}/bytes/a", b"first")
    s3.write_bytes(f"{store}/bytes/a", b"second")
    assert s3.read_bytes(f"{store}/bytes/a") == b"second"


def test_exists_knows_objects_and_directories_but_not_parts_of_names(store: str) -> None:
    s3.write_bytes(f"{store}/exists/run1/model", b"x")
    assert s3.exists(f"{store}/exists/run1/model")
    assert s3.exists(f"{store}/exists/run1")
    assert not s3.exists(f"{store}/exists/run")
    assert not s3.exists(f"{store}/exists/run1/mod")


def test_exists_sees_a_directory_beside_a_name_that_sorts_before_it(store: str) -> None:
    s3.write_bytes(f"{store}/sorted/run-old", b"x")
    s3.write_bytes(f"{store}/sorted/run/model", b"x")
    assert s3.exists(f"{store}/sorted/run")


def test_list_keys_is_relative_and_stops_at_the_slash(store: str) -> None:
    for name in ("run1/b", "run1/a/c", "run10/d"):
        s3.write_bytes(f"{store}/list/{name}", b"x")
    assert s3.list_keys(f"{store}/list/run1") == ["a/c", "b"]
    assert s3.list_keys(f"{store}/list/none") == []


def test_delete_prefix_leaves_the_neighbours(store: str) -> None:
    for name in ("run1/a", "run1/b/c", "run10/d"):
        s3.write_bytes(f"{store}/delete/{name}", b"x")
    assert s3.delete_prefix(f"{store}/delete/run1") == 2
    assert s3.list_keys(f"{store}/delete") == ["run10/d"]


def test_a_whole_bucket_is_not_emptied(store: str) -> None:
    with failure("refusing", store):
        s3.delete_prefix(store)


@pytest.mark.parametrize("size", [0, 1000, PART_BYTES, 2 * PART_BYTES + 5])
def test_file_comes_back_as_it_was(store: str, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))
    s3.upload_file(source, f"{store}/files/{size}")
    s3.download_file(f"{store}/files/{size}", target)
    assert sha256(target) == sha256(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_damaged_object_is_refused_and_leaves_no_file(store: str, tmp_path: Path) -> None:
    # Someone else's bytes under the digest of ours.
    s3.connect().put_object(
        Bucket="mono3d", Key="damaged/a", Body=b"other", Metadata={"sha256": "0" * 64}
    )
    with failure("damaged/a", "is damaged"):
        s3.download_file(f"{store}/damaged/a", tmp_path / "a")
    with failure("damaged/a", "is damaged"):
        s3.read_bytes(f"{store}/damaged/a")
    assert list(tmp_path.iterdir()) == []


def test_object_without_our_digest_is_read(store: str) -> None:
    s3.connect().put_object(Bucket="mono3d", Key="foreign/a", Body=b"other")
    assert s3.read_bytes(f"{store}/foreign/a") == b"other"


def test_ensure_bucket_may_be_repeated(store: str) -> None:
    s3.ensure_bucket("s3://another-bucket/x")
    s3.ensure_bucket("s3://another-bucket/y")
    s3.write_bytes("s3://another-bucket/a", b"x")
    assert s3.read_bytes("s3://another-bucket/a") == b"x"


def test_check_access_leaves_nothing_behind(store: str) -> None:
    s3.check_access(f"{store}/probe")
    assert s3.list_keys(f"{store}/probe") == []


def test_missing_object(store: str) -> None:
    with failure(f"{store}/missing/a", "no such object"):
        s3.read_bytes(f"{store}/missing/a")


def test_missing_bucket(store: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    for call in (s3.read_bytes, s3.list_keys, s3.exists, s3.check_access):
        with failure("s3://nowhere", "bucket does not exist"):
            call("s3://nowhere/a")
    with failure("s3://nowhere", "bucket does not exist"):
        s3.upload_file(tmp_path / "a", "s3://nowhere/a")


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials(store: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "wrong-but-secret")
    for call in (s3.read_bytes, s3.exists, s3.ensure_bucket, s3.check_access):
        with failure("credentials are not accepted", "AWS_SECRET_ACCESS_KEY"):
            call(f"{store}/a")


def test_no_credentials(store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with failure("no credentials", "AWS_ACCESS_KEY_ID"):
        s3.read_bytes(f"{store}/a")


def test_reader_can_read_but_is_told_that_it_cannot_write(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3.write_bytes(f"{store}/reader/a", b"x")
    (tmp_path / "a").write_bytes(b"y")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    assert s3.read_bytes(f"{store}/reader/a") == b"x"
    with failure("cannot write", "access denied", "read-only"):
        s3.write_bytes(f"{store}/reader/a", b"y")
    with failure("cannot write", "access denied"):
        s3.upload_file(tmp_path / "a", f"{store}/reader/a")
    with failure("cannot write below", "access denied"):
        s3.check_access(f"{store}/reader")


def test_endpoint_where_nobody_listens(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for call in (s3.read_bytes, s3.exists, s3.check_access):
            with failure(endpoint, "nobody answers", "mono3d services up"):
                call(f"{store}/a")


@pytest.mark.slow
def test_endpoint_that_never_answers(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with failure("no answer in time", "AWS_ENDPOINT_URL"):
            s3.check_access(f"{store}/a")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:8333", "not a url"])
def test_endpoint_that_is_no_url(
    monkeypatch: pytest.MonkeyPatch, store: str, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with failure(repr(endpoint), "is not a URL"):
        s3.read_bytes(f"{store}/a")


def test_endpoint_that_is_a_web_server(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    with web_server() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        for call in (s3.ensure_bucket, s3.check_access):
            with failure(url, "S3 store", "AWS_ENDPOINT_URL"):
                call(f"{store}/a")


def test_store_without_boto3_is_explained() -> None:
    program = (
        "import sys; sys.modules['boto3'] = None\n"
        "from mono3d.errors import StorageError\n"
        "from mono3d.storage import s3\n"
        "try: s3.read_bytes('s3://runs/a')\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install boto3" in done.stdout
