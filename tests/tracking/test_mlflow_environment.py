import json
import os
import subprocess
import sys

PROGRAM = (
    "import json, os, mono3d.tracking.mlflow_environment\n"
    "print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('MLFLOW_')}))"
)


def test_settings_of_the_user_win_and_the_others_bound_the_waiting() -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**clean, "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"},
        check=True,
        capture_output=True,
    )
    settings = json.loads(answer.stdout)
    assert settings["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
    assert settings["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert settings["MLFLOW_DISABLE_TELEMETRY"] == "true"
