"""nuScenes tables of any size: those of a synthetic folder, copied with tokens of their own."""

import json
import re
import shutil
from pathlib import Path

from benchmarks.support.data import VERSION

_COPIED = (
    "scene", "sample", "sample_data", "sample_annotation", "instance", "ego_pose",
    "calibrated_sensor",
)  # fmt: skip
_TOKEN_OR_SCENE = re.compile(r'"([0-9a-f]{32}|synth-\w+-\d+)"')


def copy_tables(source: Path, root: Path, *, copies: int, version: str = VERSION) -> int:
    """Write tables that hold the scenes of a folder `copies` times, without images.

    Returns:
        Their size, bytes.
    """
    (root / version).mkdir(parents=True)
    shutil.copytree(source / "maps", root / "maps")
    shared = _names_outside_scenes(source / version)
    for path in (source / version).glob("*.json"):
        text = path.read_text()
        if path.stem in _COPIED:
            rows = text.strip().removeprefix("[").removesuffix("]")
            text = f"[{','.join(_renamed(rows, shared, number) for number in range(copies))}]"
        elif path.stem == "splits":  # scenes have other names now
            continue
        (root / version / path.name).write_text(text)
    return sum(path.stat().st_size for path in (root / version).iterdir())


def _names_outside_scenes(folder: Path) -> set[str]:
    """Tokens that all copies share: of categories, sensors, logs and so on."""
    tables = [path for path in folder.glob("*.json") if path.stem not in (*_COPIED, "splits")]
    return {row["token"] for path in tables for row in json.loads(path.read_text())}


def _renamed(rows: str, shared: set[str], number: int) -> str:
    def rename(match: re.Match[str]) -> str:
        name = match[1]
        return f'"{name}"' if name in shared else f'"{name}-{number}"'

    return _TOKEN_OR_SCENE.sub(rename, rows)
