"""Label and result files of KITTI's object benchmark, many frames in one table.

For the evaluator, which reads any class and thousands of files at once; a training folder is read,
frame by frame and more strictly, by `data.kitti_format`. Imports nothing that takes time.
"""

import math
from collections.abc import Sequence
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
    names = _read(listed).decode(errors="replace").split()
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
    return parse_table([(str(path), _read(path)) for path in paths], columns)


def parse_table(files: Sequence[tuple[str, bytes]], columns: int) -> KittiTable:
    """The frames of files that are already read, as pairs of a name for messages and the content.

    All files are cut into words at once, which takes a tenth of the time of doing it line by line.

    Raises:
        DataError: A line has a wrong number of values or one that is not a finite number.
    """
    content = b"".join(text + b"\n" for _, text in files)
    counts = _words_per_line(content)
    last_lines = np.cumsum([text.count(b"\n") + 1 for _, text in files], dtype=np.int64)
    wrong = np.flatnonzero((counts > 0) & (counts != columns))
    if len(wrong):
        what = "result, its score last," if columns == RESULT_COLUMNS else "label"
        where = _place(files, last_lines, int(wrong[0]))
        raise DataError(f"{where}: {counts[wrong[0]]} values; a {what} has {columns}")
    words = content.split()
    kinds = words[::columns]
    del words[::columns]
    try:
        values = np.fromiter(map(float, words), np.float64)
    except ValueError:
        values = np.array([_number(word) for word in words])
    for index in np.flatnonzero(~np.isfinite(values))[:1].tolist():
        line = int(np.flatnonzero(counts > 0)[index // (columns - 1)])
        word = words[index].decode(errors="replace")
        raise DataError(f"{_place(files, last_lines, line)}: {word!r} is not a finite number")
    lower = {kind: kind.decode(errors="replace").lower() for kind in set(kinds)}
    rows_before = np.cumsum(np.append(0, counts > 0), dtype=np.int64)
    return KittiTable(
        starts=rows_before[np.append(0, last_lines)],
        types=np.array([lower[kind] for kind in kinds], dtype=np.str_),
        values=np.pad(
            values.reshape(len(kinds), columns - 1), ((0, 0), (0, RESULT_COLUMNS - columns))
        ),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; a frame without objects has an empty one") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _words_per_line(content: bytes) -> Int64[np.ndarray, " lines"]:
    """How many words each line has; every line ends with a line break."""
    codes = np.frombuffer(content, np.uint8)
    is_space = (codes == ord(" ")) | ((codes >= ord("\t")) & (codes <= ord("\r")))
    begins_word = ~is_space & np.append(True, is_space[:-1])[: len(codes)]
    words_before_end = np.cumsum(begins_word)[codes == ord("\n")]
    counts: np.ndarray = np.diff(words_before_end, prepend=0)
    return counts


def _place(
    files: Sequence[tuple[str, bytes]], last_lines: Int64[np.ndarray, " files"], line: int
) -> str:
    """File and number of a line, counted over all files from 0."""
    file = int(np.searchsorted(last_lines, line, side="right"))
    first = int(last_lines[file - 1]) if file else 0
    return f"{files[file][0]}:{line - first + 1}"


def _number(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
