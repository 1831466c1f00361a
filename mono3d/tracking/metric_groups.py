"""The few metrics that are looked at first, again under names that MLflow's pages show together.

A page of charts has one section for what stands before the last slash of a name, in the order of
the alphabet: `val/` alone has hundreds.
"""

import re
from collections.abc import Mapping

CORE = "core"
"""This and the next two stand before `loss`, so on top of charts and comparisons; they are short,
because a chart's title has room for about twenty letters."""
DEPTH_BY_CLASS = "depth_by_class"
DEPTH_BY_RANGE = "depth_by_range"

_CORE = {
    "val/centers_depth_abs_rel": "depth_error",
    "val/matched_depth_abs_rel": "matched_error",
    "val/matched_depth_recall": "recall",
    "val/nuscenes_map": "mAP",
    "val/nuscenes_nds": "NDS",
    "val/kitti_3d_moderate": "kitti_3d_moderate",
    "val/kitti_bev_moderate": "kitti_bev_moderate",
    "val/kitti_Car_3d_moderate": "kitti_Car_3d_moderate",
}
CORE_METRICS = tuple(f"{CORE}/{name}" for name in _CORE.values())
"""Of all data sets; a run has those of its own."""

_CELL = re.compile(r"val/centers_depth_abs_rel_(?!visible_)(?P<cell>.+)")
_BAND = re.compile(r"(?P<near>\d+)(?P<rest>_\d+m|m_up)")


def grouped(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of a record's metrics that are looked at first, under their second names.

    Bands get leading zeros (`00_10m`), so that the alphabet has them from near to far.
    """
    named = ((_second_name(name), value) for name, value in metrics.items())
    return {name: value for name, value in named if name is not None}


def _second_name(name: str) -> str | None:
    if name in _CORE:
        return f"{CORE}/{_CORE[name]}"
    found = _CELL.fullmatch(name)
    if found is None:
        return None
    band = _BAND.fullmatch(found["cell"])
    if band is None:
        return f"{DEPTH_BY_CLASS}/{found['cell']}"
    return f"{DEPTH_BY_RANGE}/{int(band['near']):02d}{band['rest']}"
