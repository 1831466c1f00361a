"""Both servers as one thing: started once, stopped whatever happens, back with the same data."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mono3d.errors import ServiceError
from mono3d.services import mlflow_server, processes
from mono3d.services.stack import Stack, running_stack
from mono3d.storage import s3

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of this module's own; every test leaves it up."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def _pids(stack: Stack) -> dict[str, int | None]:
    return {status.name: status.pid for status in stack.status()}


def _conditions(stack: Stack) -> dict[str, str]:
    return {status.name: status.condition for status in stack.status()}


def _all_pids(directory: Path) -> list[int]:
    marks = (str(directory / "s3"), str(directory / "mlflow"))
    return [pid for mark in marks for pid in processes.running(mark)]


def _ask(url: str, *, data: bytes | None = None, method: str = "GET") -> bytes:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: bytes = answer.read()
    return content


def test_start_again_keeps_what_runs(up: Stack) -> None:
    before = _pids(up)
    assert None not in before.values()
    assert _conditions(up) == {"s3": "up", "mlflow": "up"}
    start = time.monotonic()
    up.start()
    assert time.monotonic() - start < 5
    assert _pids(up) == before
    state = json.loads((up.directory / "state.json").read_text())
    assert {name: entry["pid"] for name, entry in state.items()} == before
    assert state["mlflow"]["url"] == up.environment()["MLFLOW_TRACKING_URI"]


def test_only_loopback_is_listened_at(up: Stack) -> None:
    listeners = {
        each.laddr.ip
        for pid in _all_pids(up.directory)
        for each in psutil.Process(pid).net_connections(kind="inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert listeners == {"127.0.0.1"}


def test_secrets_are_in_private_files_only(up: Stack) -> None:
    secret = up.environment()["AWS_SECRET_ACCESS_KEY"]
    files = [path for path in up.directory.rglob("*") if path.is_file()]
    holders = [path for path in files if secret.encode() in path.read_bytes()]
    assert {path.name for path in holders} == {"identities.json", "env.sh"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in holders)
    assert up.directory.stat().st_mode & 0o077 == 0


def test_another_port_is_not_given_silently(up: Stack) -> None:
    url = up.environment()["MLFLOW_TRACKING_URI"]
    with pytest.raises(ServiceError, match=f"already runs at {url}"):
        up.start(port=1)
    with pytest.raises(ServiceError, match="already runs"):
        up.start(host="0.0.0.0")


def test_stack_that_was_up_is_left_alone(up: Stack) -> None:
    before = _pids(up)
    with running_stack(up.directory) as stack:
        assert stack.environment() == up.environment()
    assert _pids(up) == before


@pytest.mark.slow
def test_after_kill_9_the_same_data_are_back_at_the_same_addresses(
    up: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = up.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tracking = environment["MLFLOW_TRACKING_URI"]
    experiments = f"{tracking}/api/2.0/mlflow/experiments"
    made = json.loads(_ask(f"{experiments}/create", data=b'{"name": "kept"}', method="POST"))
    artifact = f"{tracking}/api/2.0/mlflow-artifacts/artifacts/kept/model.bin"
    _ask(artifact, data=b"weights", method="PUT")
    assert s3.read_bytes("s3://mlflow/artifacts/kept/model.bin") == b"weights"

    for pid in _all_pids(up.directory):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _all_pids(up.directory):
        assert time.monotonic() < deadline
    assert _conditions(up) == {"s3": "down", "mlflow": "down"}

    up.start()
    assert up.environment() == environment
    found = json.loads(_ask(f"{experiments}/get-by-name?experiment_name=kept"))
    assert found["experiment"]["experiment_id"] == made["experiment_id"]
    assert _ask(artifact) == b"weights"


def test_never_started_is_said(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    assert _conditions(stack) == {"s3": "down", "mlflow": "down"}
    with pytest.raises(ServiceError, match=r"no services in .*: run `mono3d"):
        stack.environment()
    assert stack.stop() == []


@pytest.mark.slow
def test_failed_start_stops_what_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_server, "find_spec", lambda name: None)
    with pytest.raises(ServiceError, match="pip install 'mlflow"), running_stack(tmp_path):
        pass
    assert (tmp_path / "s3" / "server.log").stat().st_size > 0
    assert _all_pids(tmp_path) == []


@pytest.mark.slow
def test_work_beside_the_start_is_done_before_the_block_and_its_failure_stops_all(
    tmp_path: Path,
) -> None:
    done: list[str] = []
    with running_stack(tmp_path, meanwhile=lambda: done.append("work")) as stack:
        assert done == ["work"]
        assert _conditions(stack) == {"s3": "up", "mlflow": "up"}

    def fail() -> None:
        raise RuntimeError("in the work")

    with pytest.raises(RuntimeError, match="in the work"), running_stack(tmp_path, meanwhile=fail):
        pass
    assert _all_pids(tmp_path) == []


@pytest.mark.slow
def test_exception_stops_what_was_started(tmp_path: Path) -> None:
    def fail_inside() -> None:
        with running_stack(tmp_path):
            assert len(_all_pids(tmp_path)) >= 2
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"):
        fail_inside()
    assert _all_pids(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "returncode"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, -signal.SIGINT, marks=pytest.mark.slow)],
)
def test_signal_while_starting_stops_what_was_started(
    tmp_path: Path, number: signal.Signals, returncode: int
) -> None:
    program = (
        # A background job of a shell inherits an ignored interrupt.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from mono3d.services.stack import running_stack\n"
        f"with running_stack(Path({str(tmp_path)!r})): print('unreachable')"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not processes.running(str(tmp_path / "mlflow")):
        assert owner.poll() is None
        time.sleep(0.05)
    owner.send_signal(number)
    printed, _ = owner.communicate(timeout=60)
    assert printed == b""
    assert owner.returncode == returncode
    assert _all_pids(tmp_path) == []
