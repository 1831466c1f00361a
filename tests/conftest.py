"""Fixtures that several packages share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mono3d.services.stack import running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a real S3 server and a real MLflow server, which all tests share.

    A test that stops or breaks servers starts its own.
    """
    with running_stack(tmp_path_factory.mktemp("services")) as running:
        yield running.environment()


@pytest.fixture
def stack_environ(stack: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, set for this test: its code finds both servers."""
    for name, value in stack.items():
        monkeypatch.setenv(name, value)
    return stack


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real KITTI, nuScenes and Waymo frames, for tests marked `real_data`."""
    folder = os.environ.get("MONO3D_REAL_DATA")
    if not folder:
        pytest.skip("MONO3D_REAL_DATA is not set: it names a folder with real frames")
    return Path(folder)
