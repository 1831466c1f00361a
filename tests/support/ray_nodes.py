"""A Ray cluster of several nodes on one machine, each in namespaces: own network, own processes.

To Ray they are machines: they can be killed, and be cut off. They share the disk, as nodes with a
network folder do. Needs root and Debian's iproute2; nothing outside the namespaces is touched.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

BIN = Path(sys.executable).parent
_NET = "198.18.77"
"""Of a range that is set aside for tests of networks."""
_PORT = 6379
_READY_S = 180.0


def why_not() -> str:
    """What this machine lacks; empty if it has all."""
    if shutil.which("ip") is None:
        return "needs Debian's iproute2"
    own_processes = ["unshare", "--pid", "--mount-proc", "--fork", "true"]
    if subprocess.run(own_processes, capture_output=True, check=False).returncode:
        return "namespaces of processes are not allowed here (needs root)"
    name = f"m3d-{os.getpid()}-probe"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "network namespaces are not allowed here (needs root)"
    _ip("netns", "del", name)
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@dataclass
class Node:
    """One of the machines."""

    number: int
    cluster: "Nodes"
    init: "subprocess.Popen[bytes] | None" = None
    commands: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def namespace(self) -> str:
        """Its name to the system."""
        return f"{self.cluster.prefix}-{self.number}"

    @property
    def address(self) -> str:
        """Its own."""
        return f"{_NET}.{self.number}"

    @property
    def log(self) -> Path:
        """What its `ray start` prints."""
        return self.cluster.folder / f"node-{self.number}.log"

    def _boot(self) -> None:
        """Have a first process, with which all others end; it takes in those left by theirs."""
        self.init = subprocess.Popen(
            [
                "ip", "netns", "exec", self.namespace, "unshare", "--pid", "--mount-proc", "--fork",
                "--kill-child", "sh", "-c", "sleep infinity & wait",
            ],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        await_that(self._first_process)

    def _first_process(self) -> str:
        """Its number outside; empty before there is one."""
        assert self.init is not None
        return Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().strip()

    def _begin(self, *command: str, output: IO[Any] | int, **environ: str) -> subprocess.Popen[str]:
        if self.init is None:
            self._boot()
        process = subprocess.Popen(
            ["nsenter", f"--target={self._first_process()}", "--net", "--pid", "--mount", *command],
            env={**self.cluster.environ, **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.cluster.folder,
            start_new_session=True,
        )
        self.commands.append(process)
        return process

    def run(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        """Begin a command on the machine."""
        return self._begin(
            *command, output=subprocess.PIPE, RAY_ADDRESS=self.cluster.address, **environ
        )

    def start(self, *, cpus: int, **environ: str) -> None:
        """`ray start`; the first node is the head."""
        is_head = self.number == 1
        role = (
            ["--head", f"--port={_PORT}", "--dashboard-host=127.0.0.1"]
            if is_head
            else [f"--address={self.cluster.address}"]
        )
        with self.log.open("ab") as stream:
            self._begin(
                str(BIN / "ray"), "start", *role, "--block", f"--node-ip-address={self.address}",
                f"--num-cpus={cpus}", f"--temp-dir={self.cluster.folder}/{self.number}",
                "--object-store-memory=100000000", "--disable-usage-stats",
                output=stream, **environ,
            )  # fmt: skip

    def kill(self) -> None:
        """As a machine that loses power."""
        if self.init is not None:
            os.kill(int(self._first_process()), signal.SIGKILL)
            self.init.wait()
            self.init = None

    def cut(self) -> None:
        """Pull its plug from the switch."""
        _ip("-n", self.cluster.switch, "link", "set", f"p{self.number}", "down")


@dataclass
class Nodes:
    """Machines on a switch."""

    prefix: str
    folder: Path
    environ: Mapping[str, str]
    nodes: dict[int, Node] = field(default_factory=dict)

    @property
    def switch(self) -> str:
        """The namespace in which their cables meet."""
        return f"{self.prefix}-0"

    @property
    def address(self) -> str:
        """Of the cluster."""
        return f"{_NET}.1:{_PORT}"

    def add(self) -> Node:
        """Another machine; nothing runs on it yet."""
        node = Node(number=len(self.nodes) + 1, cluster=self)
        cable = f"p{node.number}"
        _ip("netns", "add", node.namespace)
        _ip("-n", self.switch, "link", "add", cable, "type", "veth", "peer", "name", "eth0",
            "netns", node.namespace)  # fmt: skip
        _ip("-n", self.switch, "link", "set", cable, "master", "br0", "up")
        _ip("-n", node.namespace, "addr", "add", f"{node.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", node.namespace, "link", "set", device, "up")
        # It leads nowhere; Ray takes the address of the way out as the machine's own.
        _ip("-n", node.namespace, "route", "add", "default", "dev", "eth0")
        self.nodes[node.number] = node
        return node

    def alive(self) -> set[str]:
        """Addresses of the nodes that the head counts as alive."""
        program = (
            "import ray; ray.init(address='auto', logging_level='error', log_to_driver=False); "
            "print(*(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']))"
        )
        head = self.nodes[1].run(sys.executable, "-c", program)
        output, _ = head.communicate(timeout=120)
        return set(output.split()[-len(self.nodes) :]) if head.returncode == 0 else set()


@contextmanager
def machines(**environ: str) -> Iterator[Nodes]:
    """A switch without machines; all that was plugged in is killed at the end."""
    prefix = f"m3d{os.getpid() % 100_000}{secrets.token_hex(1)}"
    # Paths of Unix sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    own = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    own |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "PYTHONUNBUFFERED": "1",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "GLOO_SOCKET_IFNAME": "eth0",  # all have the host's name, whose address is none of theirs
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    cluster = Nodes(prefix=prefix, folder=folder, environ={**own, **environ})
    _ip("netns", "add", cluster.switch)
    try:
        _ip("-n", cluster.switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", cluster.switch, "link", "set", "br0", "up")
        yield cluster
    finally:
        for node in cluster.nodes.values():
            node.kill()
            for command in node.commands:
                command.communicate()
            _ip("netns", "del", node.namespace)
        _ip("netns", "del", cluster.switch)
        shutil.rmtree(folder, ignore_errors=True)


def await_that(is_so: Callable[[], object], timeout_s: float = _READY_S) -> None:
    """Until it is so."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.5)
