"""The embedded S3 server: durable, private, on loopback only."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mono3d.errors import ServiceError, StorageError
from mono3d.services import processes, s3_server
from mono3d.services.address import MLFLOW_BUCKET, RUNS_BUCKET, Address
from mono3d.services.s3_server import S3Server
from mono3d.storage import s3

pytestmark = pytest.mark.services


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path)
    yield server
    server.stop()


def _kill(server: S3Server) -> None:
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(10)


@pytest.mark.slow
def test_acknowledged_objects_survive_kill_9_and_a_move(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = server.start()
    for name, value in server.environment(first.url).items():
        monkeypatch.setenv(name, value)
    contents = {f"s3://{RUNS_BUCKET}/kill/{index}": os.urandom(100_000) for index in range(20)}
    for uri, content in contents.items():
        s3.write_bytes(uri, content)
    _kill(server)
    assert not server.is_up(first)
    with socket.create_server((first.host, first.port)):  # somebody else was quicker
        second = server.start(preferred=first)
    assert second.port != first.port
    monkeypatch.setenv("AWS_ENDPOINT_URL", second.url)
    assert {uri: s3.read_bytes(uri) for uri in contents} == contents


def test_server_is_private_and_on_loopback(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A-KEY-OF-A-REAL-ACCOUNT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-a-real-account")
    address = server.start()
    environment = server.environment(address.url)
    pid = server.pid()
    assert pid is not None
    sockets = psutil.Process(pid).net_connections(kind="inet")
    listeners = [each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN]
    assert listeners
    assert set(listeners) == {"127.0.0.1"}
    assert {each.raddr.ip for each in sockets if each.raddr} <= {"127.0.0.1"}

    assert tmp_path.joinpath("identities.json").stat().st_mode & 0o777 == 0o600
    secret = environment["AWS_SECRET_ACCESS_KEY"]
    assert secret not in server.log.read_text()
    assert all(secret not in word for word in psutil.Process(pid).cmdline())
    identities = json.loads((tmp_path / "identities.json").read_text())["identities"]
    assert [each["name"] for each in identities] == ["mono3d"]

    client = s3.connect(environment)
    assert {each["Name"] for each in client.list_buckets()["Buckets"]} == {
        MLFLOW_BUCKET,
        RUNS_BUCKET,
    }
    with pytest.raises(Exception, match="NoSuchBucket"):
        client.put_object(Bucket="never-made", Key="a", Body=b"x")
    inherited = {**os.environ, "AWS_ENDPOINT_URL": address.url}
    with pytest.raises(StorageError, match="not accepted"):
        s3.check_access(f"s3://{RUNS_BUCKET}", client=s3.connect(inherited))

    assert server.stop()
    assert processes.running(str(tmp_path)) == []
    assert not list(Path("/tmp").glob(f"seaweedfs-*-grpc-{address.port + 10_000}.sock"))


def test_another_server_at_our_port_is_not_taken_for_ours(server: S3Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert not server.is_up(Address(host="127.0.0.1", port=other.getsockname()[1]))


def test_damaged_keys_are_named(server: S3Server, tmp_path: Path) -> None:
    (tmp_path / "identities.json").write_text("{}")
    with pytest.raises(ServiceError, match=r"identities\.json is damaged"):
        server.environment("http://127.0.0.1:1")


def test_server_that_cannot_start_shows_its_last_words(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.environment("")
    monkeypatch.setattr(s3_server, "_arguments", lambda port: ["no-such-command"])
    with pytest.raises(ServiceError, match=r"did not start: .+ \(see .*server\.log\)"):
        server.start()
    assert processes.running(str(tmp_path)) == []
