"""Metrics as tables for a terminal."""

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

NUSCENES_ERRORS = ("ate", "ase", "aoe", "ave", "aae")
KITTI_DIFFICULTIES = ("easy", "moderate", "hard")
_DEPTH_COLUMNS = {
    "at centres: AbsRel": "centers_depth_abs_rel",
    "RMSE m": "centers_depth_rmse",
    "SILog": "centers_depth_silog",
    "δ<1.25": "centers_depth_delta1",
    "matched: AbsRel": "matched_depth_abs_rel",
    "recall": "matched_depth_recall",
    "map: AbsRel": "dense_depth_abs_rel",
}


def nuscenes_classes(
    values: Mapping[str, float], num_objects: Mapping[str, int] | None = None
) -> Table:
    """AP and errors of each class, and their means; `-` where the benchmark defines none.

    Args:
        values: nuscenes_{class}_{ap, ate, ...} and nuscenes_m{ap, ate, ...}.
        num_objects: Of each class, where known.
    """
    names = num_objects or [
        name.removeprefix("nuscenes_").removesuffix("_threshold")
        for name in values
        if name.startswith("nuscenes_") and name.endswith("_threshold")
    ]
    table = Table("class", *(["objects"] if num_objects else []), "AP", *NUSCENES_ERRORS)
    for name in names:
        counts = [str(num_objects[name])] if num_objects else []
        keys = (f"nuscenes_{name}_{what}" for what in ("ap", *NUSCENES_ERRORS))
        table.add_row(name, *counts, *_cells(values, keys))
    table.add_section()
    counts = [str(sum(num_objects.values()))] if num_objects else []
    keys = (f"nuscenes_m{what}" for what in ("ap", *NUSCENES_ERRORS))
    table.add_row("mean", *counts, *_cells(values, keys))
    return table


def kitti_classes(values: Mapping[str, float]) -> Table:
    """AP R40 of each class in space and from above, percent.

    Args:
        values: kitti_{class}_{3d, bev}_{easy, moderate, hard}, and the means over classes.
    """
    ending = "_3d_moderate"
    kitti = [name.removeprefix("kitti_") for name in values if name.startswith("kitti_")]
    names = [name.removesuffix(ending) for name in kitti if name.endswith(ending)]
    shown = [f"{kind}_{level}" for kind in ("3d", "bev") for level in KITTI_DIFFICULTIES]
    table = Table("class", *(name.replace("_", " ") for name in shown), title="AP R40, percent")
    for name in names:
        keys = (f"kitti_{name}_{column}" for column in shown)
        table.add_row(name, *_cells(values, keys, digits=2))
    if f"kitti{ending}" in values:
        table.add_section()
        table.add_row("mean", *_cells(values, (f"kitti_{column}" for column in shown), digits=2))
    return table


def depth_cells(values: Mapping[str, float]) -> Table:
    """Depth errors of all objects, by class, by range and by visible share; of maps by depth."""
    columns = {title: key for title, key in _DEPTH_COLUMNS.items() if key in values}
    table = Table("depth", *columns)
    keys: Sequence[str] = [*columns.values()]
    cells = dict.fromkeys(
        name.removeprefix(key)
        for key in ("centers_depth_abs_rel", "matched_depth_recall", "dense_depth_abs_rel")
        for name in values
        if name.startswith(key)
    )
    for cell in cells:
        title = cell.removeprefix("_").replace("_up", " and more") or "all"
        table.add_row(title, *_cells(values, (f"{key}{cell}" for key in keys)))
    return table


def _cells(values: Mapping[str, float], keys: Iterable[str], *, digits: int = 3) -> list[str]:
    found = (values.get(key) for key in keys)
    return ["-" if value is None else f"{value:.{digits}f}" for value in found]
