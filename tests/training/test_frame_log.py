"""The log of what has been found: exact, and sound whatever ended its process."""

import math
from pathlib import Path

import pytest
import torch

from mono3d.errors import ConfigError, DataError
from mono3d.structures import Boxes3D, Detections
from mono3d.training.frame_log import PredictionLog
from tests.support.detections import detections_at, perfect_detections

CALL = {"checkpoint": "abc", "--min-score": 0.2, "inputs": ["a", "b"]}
FOUND = detections_at(
    [[1 / 3, -2.0, 30.1], [4.0, 1e-7, 8.0]], velocity=(math.nan, 0.1), labels=[1, 0]
)
NOTHING = perfect_detections(Boxes3D.empty())


def same(one: Detections, other: Detections) -> bool:
    exact = {"rtol": 0.0, "atol": 0.0, "equal_nan": True}
    for name, value in vars(one.boxes).items():
        torch.testing.assert_close(getattr(other.boxes, name), value, **exact)
    return torch.equal(one.scores, other.scores)


def write(path: Path) -> None:
    with PredictionLog(path, CALL) as log:
        assert not log.done
        log.add("a", FOUND)
        log.add("b", NOTHING)


def test_what_is_written_is_read_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path)
    with PredictionLog(path, CALL) as log:
        assert list(log.done) == ["a", "b"]
        assert same(log.read("a"), FOUND)
        assert same(log.read("b"), NOTHING)
        log.add("c", FOUND)
        assert [frame_id for frame_id, _ in log] == ["a", "b", "c"]
        log.index()
        assert same(log.read("c"), FOUND)
        log.delete()
    assert not path.exists()


def test_each_frame_is_there_as_soon_as_it_is_added(tmp_path: Path) -> None:
    with PredictionLog(tmp_path / "log.jsonl", CALL) as log:
        log.add("a", FOUND)
        assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_half_a_line_is_done_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log.jsonl"
    write(path)
    path.write_bytes(path.read_bytes()[:-cut])
    with PredictionLog(path, CALL) as log:
        assert list(log.done) == ["a"]
        log.add("b", FOUND)
    with PredictionLog(path, CALL) as log:
        assert list(log.done) == ["a", "b"]
        assert same(log.read("b"), FOUND)


def test_work_of_another_call_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path)
    before = path.read_bytes()
    other = CALL | {"--min-score": 0.3, "--flip": True}
    said = r"log\.jsonl: unfinished work of another call \(--min-score, --flip changed\); repeat"
    with pytest.raises(ConfigError, match=said):
        PredictionLog(path, other)
    assert path.read_bytes() == before


def test_a_call_that_found_nothing_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for call in (CALL, {"checkpoint": "other"}, CALL):
        with PredictionLog(path, call) as log:
            assert not log.done
    path.write_text('{"call": {"checkpoint"')  # killed right at the start
    with PredictionLog(path, CALL) as log:
        log.add("a", FOUND)
    with PredictionLog(path, CALL) as log:
        assert list(log.done) == ["a"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"call": {}}\n{"frame": "a"\n', r"log\.jsonl:2: damaged; delete the file"),
        ('{"call": {}}\n[1, 2]\n', r"log\.jsonl:2: damaged; delete the file"),
        ('{"other": 1}\n{"frame": "a"}\n', r"log\.jsonl: no unfinished work of mono3d"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        PredictionLog(path, CALL)
    assert path.read_text() == content
