"""Training as a job on a Ray cluster that asks for a token, by Ray's command and by ours."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from tests.support.ray_head import BIN, Head, running_head

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
RECIPE = """
# Of a folder of one's own, which no cluster has.
data:
  kind: nuscenes
  version: v1.0-synth
  train_split: synth_train
  val_split: synth_val
input: {image_height_px: 64, image_width_px: 128}
model: {kind: dense, backbone: {kind: resnet, depth: 18, width: 16}, channels: 8}
train: {epochs: 2, epoch_frames: 8, batch_size: 4, log_every_steps: 1}
evaluation: {every_epochs: 2}
tracking: {max_figures: 0}
cluster: {workers: 1}
"""
PLANTED = "planted-secret-of-the-store-9f3b"


@pytest.fixture(scope="module")
def head(stack: dict[str, str]) -> Iterator[Head]:
    """With a secret in its environment, as keys of S3 are, and an MLflow."""
    tracking = {k: v for k, v in stack.items() if k.startswith("MLFLOW")}
    with (
        pytest.MonkeyPatch.context() as patch,
        running_head(cpus=2, environ={**tracking, "AWS_SECRET_ACCESS_KEY": PLANTED}) as head,
    ):
        patch.setenv("MLFLOW_TRACKING_URI", stack["MLFLOW_TRACKING_URI"])
        yield head


@dataclass(frozen=True)
class Client:
    """Who submits: a folder, and an environment that has the token."""

    folder: Path
    environ: Mapping[str, str]
    head: Head

    def run(self, *command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def job(self, name: str) -> dict[str, object]:
        return self._ask(f"jobs/{name}")

    def logs(self, job: str) -> str:
        return str(self._ask(f"jobs/{job}/logs")["logs"])

    def _ask(self, path: str) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {self.head.token}"}
        answer = requests.get(f"{self.head.url}/api/{path}", headers=headers, timeout=30)
        return dict(answer.json())

    @property
    def settings(self) -> tuple[str, ...]:
        return (f"data.root={self.folder / 'data'}", f"cluster.storage={self.folder / 'runs'}")


@pytest.fixture(scope="module")
def client(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = tmp_path_factory.mktemp("project")
    config = SyntheticConfig(
        image_size=(128, 72), train_scenes=4, val_scenes=1, samples_per_scene=1, seed=3
    )
    write_nuscenes(folder / "data", config, num_processes=1)
    shutil.copytree(ROOT / "cluster", folder / "cluster")
    (folder / "own.yaml").write_text(RECIPE)
    return Client(folder=folder, environ=head.environ, head=head)


def test_the_documented_command_trains_and_shows_what_it_does(client: Client) -> None:
    done = client.run(
        "ray", "job", "submit", "--address", client.head.url, "--submission-id", "by-ray",
        "--working-dir", ".", "--runtime-env", "cluster/runtime_env.yaml", "--",
        "mono3d", "train", "own.yaml", "--name", "by-ray", *client.settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run        by-ray, 4 steps" in done.stdout
    assert client.job("by-ray")["status"] == "SUCCEEDED"
    assert (client.folder / "runs" / "by-ray" / "result.json").is_file()
    # Ray shows a job to everyone who may see its dashboard.
    assert PLANTED not in json.dumps(client.job("by-ray")) + done.stdout + done.stderr


def test_submit_shows_the_output_and_has_the_exit_code_of_its_command(client: Client) -> None:
    address = ("submit", "--address", client.head.url)
    done = client.run("mono3d", *address, "--id", "by-us", "--", "train", "--help")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Usage: mono3d train" in done.stdout
    assert "job by-us succeeded" in done.stderr
    failed = client.run("mono3d", *address, "--id", "wrong", "--", "train", "own.yaml", "optim.l=1")
    assert failed.returncode == 2
    assert "optim.l" in failed.stdout
    assert "Traceback" not in failed.stdout + failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("job wrong failed: Job entrypoint command")
    assert "optim.l" not in failed.stderr.splitlines()[-1]
    assert client.job("wrong")["status"] == "FAILED"
    again = client.run("mono3d", *address, "--id", "wrong", "--", "train", "own.yaml")
    assert again.returncode == 2
    assert "wrong already exists" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_command_gets_the_cpus_that_it_asks_for(client: Client) -> None:
    """Nobody has as many here, so it waits to the end: Ray does not stop what waits."""
    submit = ("mono3d", "submit", "--address", client.head.url, "--id", "greedy", "--no-wait")
    begun = client.run(*submit, "--entrypoint-num-cpus", "64", "--", "doctor")
    assert begun.returncode == 0, begun.stderr
    assert client.job("greedy")["status"] == "PENDING"
    assert "waiting for resources" in str(client.job("greedy")["message"])


@pytest.fixture(scope="module")
def endless(client: Client) -> tuple[str, ...]:
    """The command of a job of that name, which trains until it is stopped."""
    command = ("train", "own.yaml", "--name", "endless", "train.epochs=4000", *client.settings)
    submit = ("mono3d", "submit", "--address", client.head.url)
    begun = client.run(*submit, "--id", "endless", "--no-wait", "--", *command)
    assert begun.returncode == 0, begun.stderr
    return command


def test_the_node_exports_what_the_dashboard_of_grafana_shows(
    client: Client, endless: tuple[str, ...]
) -> None:
    """Every metric of ours; of Ray's all but those of GPUs."""
    panels = json.loads((ROOT / "cluster" / "grafana" / "mono3d.json").read_text())["panels"]
    shown = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"\bray_\w+", target["expr"])
    }
    on_cpus = {name for name in shown if "_gpu" not in name and "_gram" not in name}

    def are_there() -> bool:
        """Not of a run before this one: the exporter keeps those for a while."""
        exported = requests.get(client.head.metrics_url, timeout=30).text
        names = set(re.findall(r"^(ray_\w+)\{", exported, re.MULTILINE))
        of_run = re.findall(r'^ray_(mono3d_\w+)\{.*run="endless".*\} \d', exported, re.MULTILINE)
        return on_cpus <= names and {"mono3d_step", "mono3d_loss"} <= set(of_run)

    await_that(are_there)


def test_a_job_that_is_stopped_ends_and_the_same_command_goes_on(
    client: Client, endless: tuple[str, ...]
) -> None:
    checkpoints = client.folder / "runs" / "endless" / "checkpoints"
    await_that(lambda: list(checkpoints.glob("*/manifest.json")))
    stopped = client.run("ray", "job", "stop", "--address", client.head.url, "endless")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert client.job("endless")["status"] == "STOPPED"
    assert mlflow_status("endless") == "KILLED", client.logs("endless")
    submit = ("mono3d", "submit", "--address", client.head.url)
    goes_on = client.run(*submit, "--id", "on", "--no-wait", "--", *endless)
    assert goes_on.returncode == 0, goes_on.stderr
    await_that(lambda: "resumed at step" in client.logs("on"))
    assert mlflow_status("endless") == "RUNNING"
    client.run("ray", "job", "stop", "--address", client.head.url, "on")
    assert mlflow_status("endless") == "KILLED", client.logs("on")


def await_that(is_so: Callable[[], object], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def mlflow_status(name: str) -> str:
    """Of the one run of this name."""
    experiment = MlflowClient().get_experiment_by_name("mono3d")
    assert experiment is not None
    query = f"tags.`mlflow.runName` = '{name}'"
    (run,) = MlflowClient().search_runs([experiment.experiment_id], query)
    return str(run.info.status)


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "Authentication required"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "Authentication failed"),
    ],
)
def test_without_the_token_nothing_is_run(
    client: Client, environ: dict[str, str], reason: str
) -> None:
    refused = client.run(
        "mono3d", "submit", "--address", client.head.url, "--", "doctor", **environ
    )
    assert refused.returncode == 2
    assert reason in refused.stderr
    assert "RAY_AUTH_TOKEN" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    direct = requests.post(f"{client.head.url}/api/jobs/", json={"entrypoint": "true"}, timeout=30)
    assert direct.status_code == 401


def test_the_folder_s_own_code_runs_where_that_is_asked_for(client: Client, tmp_path: Path) -> None:
    """A package of this name in the folder stands for a checkout whose code was changed."""
    shutil.copytree(client.folder / "cluster", tmp_path / "cluster")
    package = tmp_path / "mono3d" / "cli"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "main.py").write_text("def main():\n    print('code of this folder')\n")
    own = Client(folder=tmp_path, environ=client.environ, head=client.head)
    submit = ("mono3d", "submit", "--address", client.head.url)
    # The command itself must not find the package that lies in its folder.
    environ = {"PYTHONSAFEPATH": "1"}
    with_code = own.run(*submit, "--code", "--", "doctor", **environ)
    assert "code of this folder" in with_code.stdout, with_code.stderr
    without = own.run(*submit, "--", "doctor", **environ)
    assert "code of this folder" not in without.stdout


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "mono3d.cli.main", "submit", "--address", "http://127.0.0.1:9",
         "--", "doctor"],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("mono3d: Ray's job server at http://127.0.0.1:9: does not answer")
