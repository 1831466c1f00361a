"""KITTI files in tables: what is read, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from mono3d.errors import DataError
from mono3d.evaluation.kitti_tables import (
    LABEL_COLUMNS,
    RESULT_COLUMNS,
    frame_names,
    parse_table,
    read_table,
)
from tests.support.kitti_lines import label, result


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_columns_are_named_as_the_benchmark_orders_them(tmp_path: Path) -> None:
    line = "Car 0.1 2 -1.5 10 20 30 45 1.5 1.6 4.0 7 8 9 0.3 0.75"
    table = read_table(
        write(tmp_path, a=f"{line}\n\n{line}\n", b="", c=line), ["a", "b", "c"], RESULT_COLUMNS
    )
    assert table.starts.tolist() == [0, 2, 2, 3]
    assert table.types.tolist() == ["car"] * 3
    assert (table.truncated[0], table.occluded[0], table.alpha[0]) == (0.1, 2, -1.5)
    assert table.rectangles_px[0].tolist() == [10, 20, 30, 45]
    assert table.heights_px[0] == 25
    assert table.dims_hwl[0].tolist() == [1.5, 1.6, 4.0]
    assert table.bottoms[0].tolist() == [7, 8, 9]
    assert (table.yaw[0], table.scores[0]) == (0.3, 0.75)
    labels = parse_table([("x", label().encode())], LABEL_COLUMNS)
    assert labels.scores.tolist() == [0.0]
    assert len(parse_table([], LABEL_COLUMNS)) == 0


def test_frames_are_listed_or_those_with_ground_truth(tmp_path: Path) -> None:
    folder = write(tmp_path / "labels", **{"000002": "", "000001": ""})
    assert frame_names(folder, None) == ["000001", "000002"]
    listed = tmp_path / "val.txt"
    listed.write_text("000002\n")
    assert frame_names(folder, listed) == ["000002"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (label(), "a.txt:1: 15 values; a result, its score last, has 16"),
        (f"{result()}\n{result()} 3", "a.txt:2: 17 values"),
        (result().replace("200", "far", 1), "a.txt:1: 'far' is not a finite number"),
        (f"{result()}\n{result(float('nan'))}", "a.txt:2: 'nan' is not a finite number"),
        (result(float("inf")), "'inf' is not a finite number"),
    ],
)
def test_broken_lines(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, a=text, b=f"{result()}\r\n\n")
    with pytest.raises(DataError) as caught:
        read_table(tmp_path, ["b", "a"], RESULT_COLUMNS)
    assert message in str(caught.value)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_table(tmp_path / "nowhere", ["a"], RESULT_COLUMNS)
    with pytest.raises(DataError, match=r"a\.txt: no such file; a frame without objects has"):
        read_table(tmp_path, ["a"], RESULT_COLUMNS)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"a\.txt:1: 1 values; a result"):
        read_table(tmp_path, ["a"], RESULT_COLUMNS)
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(DataError, match=r"b\.txt: cannot be read \(Is a directory\)"):
        read_table(tmp_path, ["b"], RESULT_COLUMNS)


def test_lists_of_frames_that_name_nothing_or_one_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.txt files to evaluate on"):
        frame_names(tmp_path / "empty", None)
    listed = tmp_path / "list.txt"
    listed.write_text("  \n")
    with pytest.raises(DataError, match="names no frames"):
        frame_names(tmp_path, listed)
    listed.write_text("a\nb\na\n")
    with pytest.raises(DataError, match="frame a is listed twice"):
        frame_names(tmp_path, listed)


def test_types_are_lower_case_and_values_float64() -> None:
    table = parse_table([("x", result(kind="Person_sitting").encode())], RESULT_COLUMNS)
    assert table.types.tolist() == ["person_sitting"]
    assert table.values.dtype == np.float64
