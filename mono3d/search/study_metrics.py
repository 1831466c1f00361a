"""Which of a run's metrics a study compares, and in what words."""

import re
from collections.abc import Mapping

_COMPARED = (
    r"nuscenes_(map|nds|mate)",
    r"nuscenes_car_ap",
    r"kitti_(\w+_)?(3d|bev)_(easy|moderate|hard)",
    r"centers_depth_abs_rel(_\w+)?",
    r"matched_depth_recall",
    # Objects that easy mining could give up: hardly visible ones, and far ones.
    r"matched_depth_recall_(visible_0_40|40_50m|50m_up)",
    r"dense_depth_abs_rel",
)
_BANDS = (
    (re.compile(r"(\d+)_(\d+)m"), r"\1–\2 m"),
    (re.compile(r"(\d+)m_up"), r"over \1 m"),
    (re.compile(r"visible_(\d+)_(\d+)"), r"\1–\2 % visible"),
)
_WORDS = {
    "nuscenes_map": "mAP",
    "nuscenes_nds": "NDS",
    "nuscenes_mate": "mATE (m)",
    "centers_depth_abs_rel": "depth error",
    "matched_depth_recall": "recall",
    "dense_depth_abs_rel": "depth map error",
}


def compared(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics worth comparing: accuracy, depth errors by range and class, hard objects."""
    return {
        name: value
        for pattern in _COMPARED
        for name, value in metrics.items()
        if re.fullmatch(pattern, name.rpartition("/")[2])
    }


def in_words(metric: str) -> str:
    """A metric's name for readers: `depth error, 20–30 m`."""
    prefix, _, name = metric.rpartition("/")
    data_set = prefix.removeprefix("val").strip("/")
    words = _cell_in_words(name)
    return f"{data_set}: {words}" if data_set else words


def _cell_in_words(name: str) -> str:
    for stem, words in _WORDS.items():
        cell = name.removeprefix(stem).removeprefix("_")
        if name.startswith(stem):
            for pattern, replacement in _BANDS:
                cell = pattern.sub(replacement, cell)
            return f"{words}, {cell}" if cell else words
    benchmark, _, rest = name.partition("_")
    unit = ", AP R40 %" if benchmark == "kitti" else ""
    return rest.replace("_ap", " AP").replace("_", " ") + unit
