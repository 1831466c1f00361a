"""A real S3 server, whose store also has a reader who may not write."""

import json
from collections.abc import Iterator

import pytest

from mono3d.services.s3_server import S3Server

READER_KEY, READER_SECRET = "READERKEY", "the-secret-of-the-reader"


@pytest.fixture(scope="package")
def store_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
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
