"""`mono3d services`: up, status, env and down on real servers."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mono3d.cli.services import app
from mono3d.services.stack import Stack

RUNNER = CliRunner()


def _run(*words: str) -> tuple[int, str]:
    result = RUNNER.invoke(app, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


@pytest.mark.slow
@pytest.mark.services
def test_up_status_env_down(tmp_path: Path) -> None:
    directory = tmp_path / "with space"
    option = ("--directory", str(directory))
    try:
        code, printed = _run("up", *option)
        assert code == 0
        url = Stack(directory).environment()["MLFLOW_TRACKING_URI"]
        assert f"MLflow UI  {url}/#/experiments?workflowType=machine_learning\n" in printed
        assert f"eval \"$(mono3d services env -d '{directory}')\"" in printed

        code, printed = _run("status", *option)
        assert code == 0
        assert [line.split()[-5] for line in printed.splitlines() if "pid" in line]
        assert printed.count(" up ") == 2

        code, lines = _run("env", *option)
        assert code == 0
        script = f"{lines}\nprintf %s $MLFLOW_TRACKING_URI"
        shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        assert shell.stdout == url

        assert _run("down", *option) == (0, "stopped MLflow UI and S3\n")
    finally:
        Stack(directory).stop()
    code, printed = _run("status", *option)
    assert code == 1
    assert printed.count(" down ") == 2
    assert _run("down", *option) == (0, "nothing was running\n")


def test_help_says_where_everything_lies() -> None:
    code, printed = _run("--help")
    assert code == 0
    for word in ("runs/services", "127.0.0.1", "up", "down", "status", "env"):
        assert word in printed
