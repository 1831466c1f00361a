"""Where things are kept on this machine, and by whom at a time."""

import threading
import time
from pathlib import Path

import pytest

from mono3d.storage.local_cache import cache_folder, locked


def test_the_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mono3d"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "mono3d"


def test_threads_hold_a_lock_one_after_the_other(tmp_path: Path) -> None:
    inside: list[str] = []

    def hold() -> None:
        with locked(tmp_path / "lock"):
            inside.append("in")
            time.sleep(0.02)
            inside.append("out")

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == ["in", "out"] * 4
