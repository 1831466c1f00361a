"""Tables that are missing or broken."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mono3d.errors import DataError
from tests.support.nuscenes_tables import VERSION, cut_short, edit_table, open_tiny, write_tables


def table_path(root: Path, table: str) -> Path:
    return root / VERSION / f"{table}.json"


BROKEN_TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda r: table_path(r, "ego_pose").unlink(), r"ego_pose\.json: table is missing"),
    "cut": (
        lambda r: cut_short(table_path(r, "sample_data")),
        r"sample_data\.json: not valid JSON",
    ),
    "dangling": (
        lambda r: edit_table(r, "sample_data", lambda rows: rows[3].update(ego_pose_token="gone")),
        "tables do not fit together: .*gone",
    ),
    "no map": (lambda r: (r / "maps" / "map.png").unlink(), "tables do not fit together .*map"),
    "zero size": (
        lambda r: edit_table(r, "sample_annotation", lambda rows: rows[2].update(size=[1, 0, 2])),
        r"annotation scene-a-object-1-0: size \[1, 0, 2\] .*must be > 0",
    ),
    "no LiDAR": (
        lambda r: edit_table(r, "sample_data", lambda rows: rows.pop(6)),
        "scene-a-sample-0: no LIDAR_TOP key frame",
    ),
    "no camera": (
        lambda r: edit_table(r, "sample_data", lambda rows: rows.pop(3)),
        "scene-a-sample-0 has no key frame of CAM_BACK",
    ),
    "no annotations": (
        lambda r: edit_table(r, "sample_annotation", lambda rows: rows.clear()),
        "no annotations, so it can only be read unlabelled",
    ),
    "scene not there": (
        lambda r: (r / VERSION / "splits.json").write_text(json.dumps({"all_of_it": ["scene-c"]})),
        "split 'all_of_it': 'scene-c' is neither a scene nor a sample token",
    ),
    "splits": (lambda r: (r / VERSION / "splits.json").write_text("[]"), "splits must map a name"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN_TABLES.values(), ids=BROKEN_TABLES)
def test_broken_table_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    root = write_tables(tmp_path / "data")
    spoil(root)
    split = "all_of_it" if "all_of_it" in message else "all"
    with pytest.raises(DataError, match=message) as caught:
        open_tiny(root, tmp_path, split=split)
    assert "\n" not in str(caught.value)
