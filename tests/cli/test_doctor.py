"""`mono3d doctor`: one line for each thing, exit code 2 if one fails."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from mono3d.cli.doctor import doctor

VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "RAY_ADDRESS",
    "MONO3D_REAL_DATA",
)
BLOCKED = ("ray", "mlflow", "boto3", "botocore", "nuscenes", "optuna", "psutil")
WITHOUT_PACKAGES = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in {BLOCKED!r} else found(name)
import typer
from mono3d.cli.doctor import doctor
typer.run(doctor)
"""


def _doctor() -> tuple[int, list[str]]:
    app = typer.Typer()
    app.command()(doctor)
    result = CliRunner().invoke(app, [])
    return result.exit_code, result.stdout.splitlines()


def test_machine_without_services_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    code, lines = _doctor()
    assert code == 0
    warned = [line.split()[1] for line in lines if line.startswith("warn")]
    assert {"MLflow", "S3"} <= set(warned)
    assert len([line for line in lines if "fix:" in line]) == len(warned)


def test_failure_has_a_fix_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, lines = _doctor()
    assert code == 2
    (failed,) = [index for index, line in enumerate(lines) if line.startswith("fail")]
    assert "MLflow" in lines[failed]
    assert "fix: start it" in lines[failed + 1]


@pytest.mark.services
def test_everything_is_well(stack_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, lines = _doctor()
    assert code == 0
    assert not [line for line in lines if line.startswith("fail")]
    assert any(stack_environ["AWS_ENDPOINT_URL"] in line for line in lines)


def test_runs_where_only_torch_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGES],
        env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert "missing: ray (training on a cluster), mlflow (tracking), boto3" in done.stdout
    assert "pip install boto3" in done.stdout
    assert done.returncode == 2
