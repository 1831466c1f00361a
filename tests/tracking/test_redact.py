import pytest

from mono3d.tracking.redact import is_secret_name, redact, redact_values


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("s3://AKIAX:ab/cd+ef@bucket/runs", "s3://***@bucket/runs"),
        (
            "postgresql+psycopg2://optuna:p@ss:w@db:5432/study",
            "postgresql+psycopg2://***@db:5432/study",
        ),
        ("https://ghp_123@example.org/x.git", "https://***@example.org/x.git"),
        ("s3://bucket/a?X-Amz-Signature=abc&x=1", "s3://bucket/a?X-Amz-Signature=***&x=1"),
        ("http://host/?password=hunter2", "http://host/?password=***"),
        ("s3://bucket/runs/demo", "s3://bucket/runs/demo"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("resnet18@0.5", "resnet18@0.5"),
    ],
)
def test_only_credentials_are_hidden(text: str, safe: str) -> None:
    assert redact(text) == safe


def test_credentials_inside_json_leave_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"a": "s3://k:s@b/x", "b": "http://h:80", "c": "me@home"}'
    assert redact(text) == '{"a": "s3://***@b/x", "b": "http://h:80", "c": "me@home"}'


def test_the_shell_s_directory_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", "/home/somebody/detector")
    monkeypatch.setenv("DB_PWD", "a-long-password")
    assert redact("/home/somebody/detector/data a-long-password") == (
        "/home/somebody/detector/data ***"
    )


def test_values_of_secret_environment_variables_are_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-K7MDENG")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wJalrXUtnFEMI-K7MDENG-longer")
    assert redact("env wJalrXUtnFEMI-K7MDENG end") == "env *** end"
    assert redact("env wJalrXUtnFEMI-K7MDENG-longer end") == "env *** end"


@pytest.mark.parametrize(
    "key",
    ["storage.secret_access_key", "db.password", "token", "MLFLOW_TRACKING_TOKEN", "a/api_key"],
)
def test_value_of_a_credential_key_is_hidden(key: str) -> None:
    assert is_secret_name(key)
    assert redact_values({key: "x"}) == {key: "***"}


@pytest.mark.parametrize("key", ["model.num_tokens", "model.tokenizer", "secretary", "loss/depth"])
def test_other_keys_are_left_alone(key: str) -> None:
    assert not is_secret_name(key)
    assert redact_values({key: "x"}) == {key: "x"}
