"""Which of a run's metrics a study compares, in what words, and which way is better."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class _Kind:
    """A metric, or a family of them that differ by a cell: a class, a range, a visible share."""

    stem: str
    words: str
    less_is_better: bool = False
    cells: str | None = None
    """Pattern of the cells that are compared beside the whole; None compares the whole alone."""


_HARD = "visible_0_40|40_50m|50m_up"
"""Objects that easy mining could give up: hardly visible ones, and far ones."""
_KINDS = (
    _Kind("nuscenes_map", "mAP"),
    _Kind("nuscenes_nds", "NDS"),
    _Kind("nuscenes_mate", "mATE (m)", less_is_better=True),
    _Kind("nuscenes_car_ap", "car AP"),
    _Kind("centers_depth_abs_rel", "depth error", less_is_better=True, cells=r"\w+"),
    _Kind("matched_depth_abs_rel", "depth error of found objects", less_is_better=True),
    _Kind("matched_depth_recall", "recall", cells=_HARD),
    _Kind("dense_depth_abs_rel", "depth map error", less_is_better=True),
    _Kind("kitti", "AP R40 %", cells=r"(\w+_)?(3d|bev)_(easy|moderate|hard)"),
)
_HEADLINES = re.compile(
    r"nuscenes_(map|nds|mate)|kitti_Car_(3d|bev)_moderate|centers_depth_abs_rel"
    r"|matched_depth_abs_rel|matched_depth_recall(_visible_0_40|_50m_up)?"
)
_CELLS = (
    (re.compile(r"^(\d+)_(\d+)m$"), r"\1–\2 m"),
    (re.compile(r"^(\d+)m_up$"), r"over \1 m"),
    (re.compile(r"^visible_(\d+)_(\d+)$"), r"\1–\2 % visible"),
)


def compared(metrics: Mapping[str, float], also: Collection[str] = ()) -> dict[str, float]:
    """The metrics worth comparing: accuracy, depth errors by range and class, hard objects.

    Of merged data with one set that is measured, metrics of all are those of that set, and left
    out.

    Args:
        metrics: Of a run.
        also: Others to keep, such as the declared one.
    """
    found = {
        name: value
        for kind in _KINDS
        for name, value in metrics.items()
        if _cell(kind, name) is not None
    }
    sets = {folder for name in found if (folder := name.rpartition("/")[0]) != "val"}
    if len(sets) == 1:
        (only,) = sets
        found = {
            name: value
            for name, value in found.items()
            if name.startswith(f"{only}/")
            or found.get(f"{only}/{name.removeprefix('val/')}") != value
        }
    return found | {name: metrics[name] for name in also if name in metrics}


def less_is_better(metric: str) -> bool:
    """Whether a compared metric is an error."""
    return any(kind.less_is_better for kind in _KINDS if _cell(kind, metric) is not None)


def is_headline(metric: str) -> bool:
    """Whether it belongs into a first look."""
    return _HEADLINES.fullmatch(metric.rpartition("/")[2]) is not None


def in_words(metric: str) -> str:
    """A metric's name for readers: `depth error, 20–30 m`."""
    folder, _, name = metric.rpartition("/")
    data_set = folder.removeprefix("val").strip("/")
    words = name
    for kind in _KINDS:
        cell = _cell(kind, metric)
        if cell is not None:
            words = f"{kind.words}, {_cell_in_words(cell)}" if cell else kind.words
    return f"{data_set}: {words}" if data_set else words


def _cell(kind: _Kind, metric: str) -> str | None:
    """The cell of a kind that a metric is of, empty for the whole; None if it is no such metric."""
    name = metric.rpartition("/")[2]
    if name == kind.stem:
        return ""
    stem, cell = name[: len(kind.stem) + 1], name[len(kind.stem) + 1 :]
    is_of = stem == f"{kind.stem}_" and kind.cells is not None
    return cell if is_of and re.fullmatch(kind.cells or "", cell) else None


def _cell_in_words(cell: str) -> str:
    for pattern, replacement in _CELLS:
        if pattern.match(cell):
            return pattern.sub(replacement, cell)
    return cell.replace("_", " ")
