"""KITTI label and result lines by hand: what a test does not say is of no interest."""

from collections.abc import Sequence

from mono3d.evaluation.kitti_tables import LABEL_COLUMNS, RESULT_COLUMNS, KittiTable, parse_table

Rectangle = tuple[float, float, float, float]


def label(
    kind: str = "Car",
    *,
    rectangle: Rectangle = (100, 100, 200, 200),
    truncated: float = 0,
    occluded: int = 0,
    alpha: float = 0,
    dims_hwl: Sequence[float] = (1.5, 2, 4),
    bottom: Sequence[float] = (0, 1.5, 20),
    yaw: float = 0,
) -> str:
    values = (truncated, occluded, alpha, *rectangle, *dims_hwl, *bottom, yaw)
    return " ".join([kind, *map(str, values)])


def result(score: float = 0.5, kind: str = "Car", **what: object) -> str:
    return f"{label(kind, **what)} {score}"  # type: ignore[arg-type]


def dont_care(rectangle: Rectangle) -> str:
    nowhere = {"dims_hwl": (-1, -1, -1), "bottom": (-1000, -1000, -1000), "yaw": -10}
    return label("DontCare", rectangle=rectangle, truncated=-1, occluded=-1, alpha=-10, **nowhere)  # type: ignore[arg-type]


def labels(*frames: Sequence[str]) -> KittiTable:
    return _table(frames, LABEL_COLUMNS)


def results(*frames: Sequence[str]) -> KittiTable:
    return _table(frames, RESULT_COLUMNS)


def _table(frames: Sequence[Sequence[str]], columns: int) -> KittiTable:
    files = [(f"{number}.txt", "\n".join(lines).encode()) for number, lines in enumerate(frames)]
    return parse_table(files, columns)
