"""Credentials in the environment reach nothing that is written, shown or sent."""

import base64
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from mono3d.cli.main import main
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.storage import s3
from mono3d.tracking.redact import redact
from tests.cli.test_bad_input import SHRUNK
from tests.security.planted import IN_URIS, NAMED, SECRETS, leaking_files, leaks
from tests.support.cli_process import start
from tests.support.kitti_folder import write_kitti
from tests.support.mlflow_process import MlflowProcess, free_port

Run = Callable[..., tuple[int, bytes]]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment full of credentials, and services at which nobody answers."""
    for name in [n for n in os.environ if n.startswith(("AWS_", "MLFLOW_", "RAY_"))]:
        monkeypatch.delenv(name)
    for name, secret in NAMED.items():
        monkeypatch.setenv(name, secret)
    away = f"127.0.0.1:{free_port()}"
    forms = {
        "MLFLOW_TRACKING_URI": f"http://me:{IN_URIS['MLFLOW_TRACKING_URI']}@{away}",
        "MONO3D_SEARCHES": f"postgresql://me:{IN_URIS['MONO3D_SEARCHES']}@{away}/searches",
        "AWS_ENDPOINT_URL": f"http://me:{IN_URIS['AWS_ENDPOINT_URL']}@{away}",
    }
    for name, uri in forms.items():
        monkeypatch.setenv(name, uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(
    planted: None, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Run:
    """A command in this process: its exit code, and all that it printed."""

    def command(*arguments: str) -> tuple[int, bytes]:
        # As a fresh process has it: its log lines go to stderr in its own format.
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        monkeypatch.setattr(sys, "argv", ["mono3d", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capfdbinary.readouterr()
        return code, captured.out + captured.err

    return command


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_hidden_as_it_is_and_as_libraries_write_it(planted: None, secret: str) -> None:
    written = {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps({"a": secret}),
        base64.b64encode(secret.encode()).decode(),
    }
    for form in written:
        assert not leaks(redact(f"see {form} there").encode(), [secret])


FAILING = {
    "no S3 server": ("evaluate", "s3://mono3d/run"),
    "no MLflow server": ("evaluate", "0123456789abcdef0123456789abcdef"),
    "no PostgreSQL server": ("studies", "list"),
    "a database on the command line": (
        "studies", "list", "--database", f"mysql://me:{IN_URIS['MONO3D_SEARCHES']}@host/name",
    ),
    "a password in data.root": (
        "train", "demo", "--local", f"data.root=s3://me:{NAMED['AWS_SECRET_ACCESS_KEY']}@bucket/x",
    ),
    "a password in cluster.storage": (
        "train", "demo", f"cluster.storage=s3://me:{NAMED['AWS_SECRET_ACCESS_KEY']}@bucket/x",
    ),
    "a password in the URI of a checkpoint": (
        "evaluate", f"s3://me:{NAMED['AWS_SECRET_ACCESS_KEY']}@bucket/x",
    ),
    "a secret for a number": ("train", "demo", f"optim.lr={NAMED['HF_TOKEN']}", "--dry-run"),
}  # fmt: skip


@pytest.mark.parametrize("arguments", FAILING.values(), ids=FAILING)
def test_a_command_that_fails_shows_no_secret(
    arguments: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    code, said = run(*arguments)
    assert code == 2
    assert said
    assert leaks(said) == []
    assert not any(path.is_file() and leaks(path.read_bytes()) for path in tmp_path.rglob("*"))


def test_the_doctor_shows_no_secret(run: Run) -> None:
    code, said = run("doctor")
    assert code == 2
    assert b"fail  S3" in said
    assert b"fail  MLflow" in said
    assert leaks(said) == []


def test_an_endpoint_that_is_no_url_is_shown_without_its_password(
    planted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"me:{IN_URIS['AWS_ENDPOINT_URL']}@no url"
    with pytest.raises(Exception, match="AWS_ENDPOINT_URL='no url' is not a URL") as caught:
        s3.connect({"AWS_ENDPOINT_URL": endpoint})
    assert leaks(str(caught.value).encode()) == []


def test_a_fault_of_ours_shows_its_traceback_without_secrets(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"connection string {os.environ['MONO3D_SEARCHES']} is no good")

    monkeypatch.setattr("mono3d.config.load.load_recipe", fail)
    code, said = run("train", "demo", "--dry-run")
    assert code == 1
    assert b"RuntimeError: connection string postgresql://***@" in said
    assert leaks(said) == []


def test_a_log_line_of_a_library_shows_no_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object) -> object:
        logging.getLogger("urllib3").warning("retrying %s", os.environ["MLFLOW_TRACKING_URI"])
        raise SystemExit

    monkeypatch.setattr("mono3d.config.load.load_recipe", warn)
    _, said = run("train", "demo", "--dry-run")
    assert b"WARNING retrying http://***@" in said
    assert leaks(said) == []


def test_a_run_without_servers_writes_no_secret(run: Run, tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    code, said = run(
        "train", "kitti_overfit", "--local", "--name", "plain", f"data.root={root}", *SHRUNK
    )
    assert code == 0, said
    assert leaks(said) == []
    assert {p.name for p in (tmp_path / "runs" / "plain").iterdir()} >= {"run.json", "result.json"}
    assert leaking_files(tmp_path) == {}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.services
def test_a_run_with_ray_mlflow_and_s3_writes_no_secret(
    store_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The keys of the store are its own; MLflow asks nobody for the password that it is sent."""
    server = MlflowProcess(tmp_path / "mlflow")
    server.start()
    for name in [n for n in os.environ if n.startswith(("AWS_", "MLFLOW_", "RAY_"))]:
        monkeypatch.delenv(name)
    for name, value in {**NAMED, **store_environment}.items():
        monkeypatch.setenv(name, value)
    host = server.uri.removeprefix("http://")
    for name, value in {
        "MLFLOW_TRACKING_URI": f"http://me:{IN_URIS['MLFLOW_TRACKING_URI']}@{host}",
        "MLFLOW_TRACKING_USERNAME": "me",
        "MONO3D_SEARCHES": f"postgresql://me:{IN_URIS['MONO3D_SEARCHES']}@127.0.0.1:9/name",
        "RAY_AUTH_MODE": "token",
        "RAY_TMPDIR": str(tmp_path_factory.getbasetemp().parent / "r"),  # of sockets: short
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    secrets = (*SECRETS, store_environment["AWS_SECRET_ACCESS_KEY"])
    world = SyntheticConfig(
        image_size=(128, 72), train_scenes=2, val_scenes=1, samples_per_scene=1, seed=3
    )
    work = tmp_path / "work"
    write_nuscenes(work / "data", world, num_processes=1)
    process = start(
        work, "train", "mining_study", "--name", "planted", "cluster.storage=s3://mono3d/planted",
        "data.root=data", "input.image_height_px=64", "input.image_width_px=128",
        "model.backbone.width=16", "model.channels=8", "train.epochs=1", "train.batch_size=2",
        "train.log_every_steps=1", "tracking.max_figures=1",
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=500)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        server.kill()
    assert process.returncode == 0, said
    assert "MLflow run" in said
    assert leaks(said.encode(), secrets) == []
    for folder in (work, server.folder, Path(os.environ["RAY_TMPDIR"])):
        assert leaking_files(folder, secrets) == {}
    objects = s3.list_keys("s3://mono3d/planted")
    assert "planted/run.json" in objects
    stored = {name: s3.read_bytes(f"s3://mono3d/planted/{name}") for name in objects}
    assert {name: leaks(content, secrets) for name, content in stored.items()} == {
        name: [] for name in objects
    }
