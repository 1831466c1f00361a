"""What is remembered about the services."""

import json
from pathlib import Path

import pytest

from mono3d.errors import ServiceError
from mono3d.services.address import Address
from mono3d.services.state import StackState, read_state, write_state


def test_state_comes_back_and_names_process_and_url(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert read_state(path) == StackState()
    state = StackState(s3=Address(host="127.0.0.1", port=21_000))
    write_state(path, state, {"s3": 7, "mlflow": None})
    assert read_state(path) == state
    entry = {"host": "127.0.0.1", "port": 21_000, "url": "http://127.0.0.1:21000", "pid": 7}
    assert json.loads(path.read_text()) == {"s3": entry}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"s3": 1}', '{"s3": {}}', '{"other": {}}'])
def test_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(ServiceError, match=r"state\.json is damaged: delete it"):
        read_state(path)
