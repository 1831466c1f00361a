"""Server processes that outlive the command that started them.

Each is started with a mark in its environment, which its children inherit. Processes are found
again by that mark alone, never by a process id from a file: ids are reused, marks are not.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_MARK = "MONO3D_SERVICE"
_POLL_S = 0.1
_KILL_TIMEOUT_S = 10.0

# Children of this very process must be waited for once they are killed, or they stay as zombies.
_children: dict[str, "subprocess.Popen[bytes]"] = {}


def spawn(
    command: Sequence[str], *, mark: str, environ: Mapping[str, str], cwd: Path, log: Path
) -> None:
    """Start a server in a session of its own, so that Ctrl-C here does not reach it.

    Args:
        command: Program and arguments.
        mark: Tells this server from all others; usually its state directory.
        environ: Its environment, without the mark.
        cwd: Its working directory.
        log: What it prints is appended here.
    """
    with log.open("ab") as stream:
        _children[mark] = subprocess.Popen(
            command,
            env={**environ, _MARK: mark},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def inherited_environ(without: Sequence[str]) -> dict[str, str]:
    """This process's environment without the variables that begin with one of the prefixes."""
    return {k: v for k, v in os.environ.items() if not k.startswith(tuple(without))}


def running(mark: str) -> list[int]:
    """Ids of the living processes of this user that carry the mark, in ascending order."""
    import psutil

    marked = {process.pid for process in psutil.process_iter() if _carries(process, mark)}
    # On a busy machine a child's environment can be read as empty until its exec is through.
    child = _children.get(mark)
    if child is not None and child.poll() is None:
        marked.add(child.pid)
    return sorted(marked)


def _carries(process: Any, mark: str) -> bool:
    from psutil import Error

    try:
        return bool(process.environ().get(_MARK) == mark)
    except (Error, OSError):  # gone, a zombie, or someone else's
        return False


def listening_ports(mark: str) -> set[int]:
    """The TCP ports that marked processes hold."""
    return set().union(*(_listening_ports(pid) for pid in running(mark)))


def _listening_ports(pid: int) -> set[int]:
    import psutil

    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:  # it ended in the meantime
        return set()
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def await_ready(mark: str, is_ready: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until a server answers; False if it ended or the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and running(mark):
        if is_ready():
            return True
        time.sleep(_POLL_S)
    return False


def end(mark: str, *, grace_s: float) -> bool:
    """End every marked process, and wait until all are gone.

    Args:
        mark: What they carry.
        grace_s: Seconds between the polite signal and the hard one; 0 for the hard one at once.

    Returns:
        Whether there were any.
    """
    found = running(mark)
    if grace_s > 0:
        _send(found, signal.SIGTERM)
        _await_end(mark, grace_s)
    _send(running(mark), signal.SIGKILL)
    _await_end(mark, _KILL_TIMEOUT_S)
    if (child := _children.pop(mark, None)) is not None:
        child.wait()
    return bool(found)


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _await_end(mark: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while running(mark) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def last_line(log: Path) -> str:
    """The last line a server wrote, for an error message; empty if it wrote nothing."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
