from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mlflow_process import MlflowProcess


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowProcess]:
    """A server that all tests share; a test that kills it starts it again."""
    folder: Path = tmp_path_factory.mktemp("mlflow")
    server = MlflowProcess(folder)
    server.start()
    yield server
    server.kill()
