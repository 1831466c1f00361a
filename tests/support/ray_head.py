"""A Ray cluster of one node on loopback, with its job server, as a user starts it by hand."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from mono3d.services.ports import free_block

BIN = Path(sys.executable).parent
_READY_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Head:
    """A node that answers."""

    url: str
    """Of its dashboard and job server."""
    metrics_url: str
    """Of its exporter."""
    token: str
    environ: Mapping[str, str]
    """Of a client that may use it."""


@contextmanager
def running_head(*, cpus: int, environ: Mapping[str, str]) -> Iterator[Head]:
    """`ray start --head` with token authentication.

    Args:
        cpus: That it has to give.
        environ: More of its environment, which jobs inherit.
    """
    token = secrets.token_hex(32)
    own = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's 15 would wait for everything else on the machine
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        own.pop(name, None)
    # Paths of Unix sockets are short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    first = free_block(5, host="127.0.0.1")
    port, dashboard, agent, client, metrics = range(first, first + 5)
    process = subprocess.Popen(
        [
            str(BIN / "ray"), "start", "--head", "--block", f"--temp-dir={folder}",
            f"--num-cpus={cpus}", f"--port={port}", "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}",
            f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}",
            "--object-store-memory=200000000", "--disable-usage-stats",
        ],
        env={**own, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    head = Head(
        url=f"http://127.0.0.1:{dashboard}",
        metrics_url=f"http://127.0.0.1:{metrics}/metrics",
        token=token,
        environ=own,
    )
    try:
        _wait_for(head, process)
        yield head
    finally:
        for member in [*psutil.Process(process.pid).children(recursive=True), process]:
            member.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(head: Head, process: "subprocess.Popen[bytes]") -> None:
    """Until jobs can be listed, which needs all of its parts."""
    deadline = time.monotonic() + _READY_S
    headers = {"Authorization": f"Bearer {head.token}"}
    while time.monotonic() < deadline:
        assert process.poll() is None, "the head has ended"
        try:
            if requests.get(f"{head.url}/api/jobs/", headers=headers, timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.5)
    raise TimeoutError("the head does not answer")
