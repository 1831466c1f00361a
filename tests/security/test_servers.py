"""Who can reach the servers that mono3d starts. The S3 server: tests/services/test_s3_server.py."""

import inspect
import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from mono3d.config.training_sections import ClusterConfig
from mono3d.errors import ServiceError
from mono3d.services.mlflow_server import MlflowServer
from mono3d.services.s3_server import _arguments
from mono3d.training.ray_session import ray_session

SECRET = "pL4nt3d-secret-of-the-store"
S3 = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Of servers that are not really started."""
    found: list[Sequence[str]] = []

    def spawn(command: Sequence[str], *, environ: Mapping[str, str], **_: Any) -> None:
        assert environ["AWS_SECRET_ACCESS_KEY"] == SECRET
        found.append(command)

    monkeypatch.setattr("mono3d.services.processes.spawn", spawn)
    monkeypatch.setattr("mono3d.services.processes.await_ready", lambda *_: True)
    return found


@pytest.mark.parametrize(("asked", "host"), [({}, "127.0.0.1"), ({"host": "0.0.0.0"}, "0.0.0.0")])
def test_mlflow_is_on_loopback_unless_asked_and_has_no_secret_in_its_arguments(
    asked: dict[str, str], host: str, commands: list[Sequence[str]], tmp_path: Path
) -> None:
    MlflowServer(tmp_path).start(S3, **asked)
    (command,) = commands
    assert command[command.index("--host") + 1] == host
    assert not any(SECRET in word for word in command)


def test_the_s3_server_has_only_loopback_in_its_arguments() -> None:
    words = _arguments(21_000)
    assert {word for word in words if word.startswith("-ip")} == {
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
    }


def test_a_folder_that_others_could_enter_is_closed(
    commands: list[Sequence[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "mlflow"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    MlflowServer(folder).start(S3)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_closed_is_named(
    commands: list[Sequence[str]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="file/mlflow: cannot be made private"):
        MlflowServer(tmp_path / "file" / "mlflow").start(S3)


def test_ray_s_dashboard_stays_where_ray_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    usual = inspect.signature(ray.init).parameters["dashboard_host"].default
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr("ray.init", lambda **named: given.update(named))
    monkeypatch.setattr("mono3d.training.ray_session._check_gpus", lambda _: None)
    with ray_session(ClusterConfig(), has_dashboard=True):
        pass
    assert given["include_dashboard"] is True
    assert given.get("dashboard_host", usual) == "127.0.0.1"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_cluster_of_our_own_asks_for_a_token_that_only_the_user_can_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    with ray_session(ClusterConfig(), has_dashboard=False):
        assert stat.S_IMODE((Path.home() / ".ray" / "auth_token").stat().st_mode) == 0o600
        address = ray.get_runtime_context().gcs_address
        assert _is_answered(address, "token")
        assert not _is_answered(address, "disabled")
        for process in psutil.Process().children(recursive=True):
            assert not any(SECRET in word for word in process.cmdline())
            assert not any(SECRET in value for value in process.environ().values())


def _is_answered(address: str, mode: str) -> bool:
    """Whether the cluster tells its state to a process with or without the token."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    answer = subprocess.run(
        command,
        env={**os.environ, "RAY_AUTH_MODE": mode},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    is_refused = "Unauthenticated" in answer.stderr or "AuthenticationError" in answer.stderr
    assert is_refused == (answer.returncode != 0), answer.stderr
    return answer.returncode == 0
