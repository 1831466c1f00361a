"""Servers that outlive their command: found by their mark, ended for good."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mono3d.services import processes
from mono3d.services.ports import free_block

SERVER = """
import signal, socket, subprocess, sys
{prelude}
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
listener = socket.create_server(("127.0.0.1", {port}))
print("ready", flush=True)
signal.pause()
"""


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path)
    processes.end(str(tmp_path), grace_s=0.0)


def _spawn(mark: str, *, prelude: str = "") -> int:
    """Start a server with a child; its port."""
    port, folder = free_block(1, host="127.0.0.1"), Path(mark)
    command = [sys.executable, "-c", SERVER.format(prelude=prelude, port=port)]
    environ = processes.inherited_environ(())
    processes.spawn(command, mark=mark, environ=environ, cwd=folder, log=folder / "log")
    assert processes.await_ready(mark, lambda: processes.last_line(folder / "log") == "ready", 20.0)
    return port


def test_server_and_its_child_are_found_by_the_mark_alone(mark: str) -> None:
    port = _spawn(mark)
    pids = processes.running(mark)
    assert len(pids) == 2
    assert processes.listening_ports(mark) == {port}
    assert processes.running(f"{mark}/other") == []
    assert processes.end(mark, grace_s=5.0)
    assert not any(psutil.pid_exists(pid) for pid in pids[:1])
    assert processes.running(mark) == []
    assert not processes.end(mark, grace_s=5.0)


def test_server_that_ignores_sigterm_is_killed(mark: str) -> None:
    _spawn(mark, prelude="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    start = time.monotonic()
    assert processes.end(mark, grace_s=0.5)
    assert 0.5 <= time.monotonic() - start < 5
    assert processes.running(mark) == []


def test_own_child_counts_before_its_environment_can_be_read(
    mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy machine, where exec takes its time after Popen has returned."""
    monkeypatch.setattr(processes, "_carries", lambda process, mark: False)
    _spawn(mark, prelude="subprocess.Popen = lambda *_: None")
    (pid,) = processes.running(mark)
    assert processes.end(mark, grace_s=0.0)
    assert not psutil.pid_exists(pid)
    assert processes.running(mark) == []


def test_server_has_a_session_of_its_own(mark: str) -> None:
    _spawn(mark)
    assert all(os.getsid(pid) != os.getsid(0) for pid in processes.running(mark))


def test_waiting_ends_when_the_server_does(mark: str) -> None:
    folder = Path(mark)
    command = [sys.executable, "-c", "print('no such option')"]
    processes.spawn(command, mark=mark, environ={}, cwd=folder, log=folder / "log")
    start = time.monotonic()
    assert not processes.await_ready(mark, lambda: False, timeout_s=30.0)
    assert time.monotonic() - start < 10
    assert processes.last_line(folder / "log") == "no such option"


def test_unwanted_variables_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("PATH_TO_KEEP", "x")
    environ = processes.inherited_environ(("AWS_", "MLFLOW_"))
    assert "AWS_PROFILE" not in environ
    assert environ["PATH_TO_KEEP"] == "x"


def test_last_line_of_no_log(tmp_path: Path) -> None:
    assert processes.last_line(tmp_path / "none") == ""
