"""The environment of clients, in Python and in a shell."""

import subprocess

import pytest

from mono3d.services.environment import client_environment, shell_lines

S3 = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_SECRET_ACCESS_KEY": "it's $HOME"}


def test_clients_find_both_servers() -> None:
    environment = client_environment(S3, "http://127.0.0.1:2")
    assert environment["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:2"
    assert environment["MLFLOW_S3_ENDPOINT_URL"] == environment["AWS_ENDPOINT_URL"]
    assert int(environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) <= 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "127.0.0.1,localhost"),
        ("corp.example", "corp.example,127.0.0.1,localhost"),
        ("127.0.0.1,localhost", "127.0.0.1,localhost"),
        ("corp.example,127.0.0.1,localhost", "corp.example,127.0.0.1,localhost"),
    ],
)
def test_proxies_are_not_asked_for_loopback(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    if before is not None:
        monkeypatch.setenv("no_proxy", before)
    assert client_environment(S3, "http://127.0.0.1:2")["no_proxy"] == after


def test_shell_gets_the_very_values() -> None:
    script = shell_lines(S3) + 'printf %s "$AWS_SECRET_ACCESS_KEY${AWS_PROFILE-unset}"'
    done = subprocess.run(
        ["sh", "-c", script], env={"AWS_PROFILE": "mine"}, capture_output=True, check=True
    )
    assert done.stdout.decode() == "it's $HOMEunset"
