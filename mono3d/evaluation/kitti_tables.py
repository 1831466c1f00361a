"""Label and result files of KITTI's object benchmark, many frames in one table.

For the evaluator, which reads any class and thousands of files at once; a training folder is read,
frame by frame and more strictly, by `data.kitti_format`. Imports nothing that takes time.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from mono3d.errors import DataError

LABEL_COLUMNS = 15
RESULT_COLUMNS = 16
DONT_CARE = "dontcare"


@dataclass(frozen=True, kw_only=True)
class KittiTable:
    """Objects of many frames, frame after frame, in the order of their files.

    Attributes:
        starts: Row at which each frame begins, and the number of rows.
        types: Classes in lower case: the benchmark does not tell cases apart.
        values: The columns after the class: truncation, occlusion, alpha, the rectangle (left, top,
            right, bottom; pixels), height, width, length (metres), the centre of the bottom face
            in the rectified camera frame (metres), rotation_y, score (0 for labels).
    """

    starts: Int64[np.ndarray, " starts"]
    types: np.ndarray
    values: Float64[np.ndarray, "n 15"]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def truncated(self) -> Float64[np.ndarray, " n"]:
        """Share of the object outside the image."""
        return self.values[:, 0]

    @property
    def occluded(self) -> Float64[np.ndarray, " n"]:
        """0 fully visible, 1 partly, 2 largely hidden, 3 unknown."""
        return self.values[:, 1]

    @property
    def alpha(self) -> Float64[np.ndarray, " n"]:
        """Observation angle; -10 where unknown."""
        return self.values[:, 2]

    @property
    def rectangles_px(self) -> Float64[np.ndarray, "n 4"]:
        """Left, top, right, bottom."""
        return self.values[:, 3:7]

    @property
    def heights_px(self) -> Float64[np.ndarray, " n"]:
        """Of the rectangles."""
        heights: np.ndarray = self.values[:, 6] - self.values[:, 4]
        return heights

    @property
    def dims_hwl(self) -> Float64[np.ndarray, "n 3"]:
        """Metres; -1 where unknown."""
        return self.values[:, 7:10]

    @property
    def bottoms(self) -> Float64[np.ndarray, "n 3"]:
        """Centre of the bottom face; -1000 where unknown."""
        return self.values[:, 10:13]

    @property
    def yaw(self) -> Float64[np.ndarray, " n"]:
        """Rotation about the camera's y axis."""
        return self.values[:, 13]

    @property
    def scores(self) -> Float64[np.ndarray, " n"]:
        """Of results."""
        return self.values[:, 14]


def frame_names(folder: Path, listed: Path | None) -> list[str]:
    """Frames to evaluate: those of a list, a name a line, or all that have a file in a folder.

    Raises:
        DataError: There is no such list or folder, or nothing in it, or a frame is listed twice.
    """
    if listed is None:
        names = sorted(path.stem for path in folder.glob("*.txt"))
        if not names:
            raise DataError(f"{folder}: no *.txt files to evaluate on")
        return names
    names = _read(listed).split()
    if not names:
        raise DataError(f"{listed}: names no frames")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{listed}: frame {twice} is listed twice")
    return names


def read_table(folder: Path, names: Sequence[str], columns: int) -> KittiTable:
    """The files of some frames.

    Args:
        folder: Holds NAME.txt of each frame.
        names: Frames, in the order of the table.
        columns: LABEL_COLUMNS or RESULT_COLUMNS.

    Raises:
        DataError: A file is missing or broken.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = [folder / f"{name}.txt" for name in names]
    return parse_table(((str(path), _read(path)) for path in paths), columns)


def parse_table(files: Iterable[tuple[str, str]], columns: int) -> KittiTable:
    """The frames of files that are already read, as pairs of a name for messages and the content.

    Raises:
        DataError: A line has a wrong number of values or one that is not a finite number.
    """
    rows: list[list[str]] = []
    starts = [0]
    names = []
    for name, text in files:
        found = [line.split() for line in text.splitlines()]
        if any(len(row) != columns for row in found):
            found = _without_empty(name, found, columns)
        rows += found
        starts.append(len(rows))
        names.append(name)
    try:
        numbers = map(float, itertools.chain.from_iterable(row[1:] for row in rows))
        values = np.fromiter(numbers, np.float64).reshape(len(rows), columns - 1)
    except ValueError:
        raise _not_a_number(rows, starts, names) from None
    if not np.isfinite(values).all():
        raise _not_a_number(rows, starts, names)
    missing = RESULT_COLUMNS - columns
    return KittiTable(
        starts=np.array(starts),
        types=np.array([row[0].lower() for row in rows], dtype=np.str_),
        values=np.pad(values, ((0, 0), (0, missing))),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; a frame without objects has an empty one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error


def _without_empty(name: str, rows: list[list[str]], columns: int) -> list[list[str]]:
    for number, row in enumerate(rows, 1):
        if row and len(row) != columns:
            what = "result, its score last," if columns == RESULT_COLUMNS else "label"
            raise DataError(f"{name}:{number}: {len(row)} values; a {what} has {columns}")
    return [row for row in rows if row]


def _not_a_number(rows: list[list[str]], starts: list[int], names: list[str]) -> DataError:
    """What to say of the first word that is none."""
    for index, row in enumerate(rows):
        for word in row[1:]:
            try:
                good = math.isfinite(float(word))
            except ValueError:
                good = False
            if not good:
                file = int(np.searchsorted(starts, index, side="right")) - 1
                where = f"{names[file]}: object {index - starts[file] + 1}"
                return DataError(f"{where}: {word!r} is not a finite number")
    raise AssertionError("all words are finite numbers")
