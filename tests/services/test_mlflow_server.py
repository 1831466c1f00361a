"""The MLflow server; what it does once it runs is tested with the whole stack."""

import socket
from pathlib import Path

import pytest

from mono3d.errors import ServiceError
from mono3d.services import mlflow_server
from mono3d.services.address import Address
from mono3d.services.mlflow_server import MlflowServer

S3 = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}


def test_taken_port_is_not_replaced_by_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"port {port} of 127\.0\.0\.1 is taken: .*--port"):
            MlflowServer(tmp_path).start(S3, port=port)
        assert not MlflowServer(tmp_path).is_up(Address(host="127.0.0.1", port=port))


def test_missing_mlflow_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_server, "find_spec", lambda name: None)
    with pytest.raises(ServiceError, match="pip install 'mlflow"):
        MlflowServer(tmp_path).start(S3)


def test_server_that_was_never_started_has_no_process(tmp_path: Path) -> None:
    server = MlflowServer(tmp_path)
    assert server.pid() is None
    assert not server.stop()
