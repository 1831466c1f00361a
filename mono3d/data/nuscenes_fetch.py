"""nuScenes tables in an S3 store, copied once: nuscenes-devkit reads folders only."""

import hashlib
import json
import shutil
from pathlib import Path

from mono3d.data.files import DataPath, check_inside, read_bytes
from mono3d.data.nuscenes_tables import TABLES, check_tables
from mono3d.errors import DataError
from mono3d.storage import s3
from mono3d.storage.local_cache import cache_folder, locked
from mono3d.storage.remote_path import RemotePath


def local_tables(root: DataPath, version: str, cache_dir: Path | None) -> Path:
    """A local nuScenes folder with the tables of a version and the maps that they name.

    Args:
        root: nuScenes folder; a local one is the answer itself.
        version: Folder of the tables.
        cache_dir: Where copies are kept; None is `cache_folder`. They have no limit.

    Raises:
        DataError: If a table or a map is missing, or the copy cannot be written.
        StorageError: If the store cannot be used.
    """
    if not isinstance(root, RemotePath):
        return root
    check_tables(root, version)
    copy = (cache_dir or cache_folder()) / f"nuscenes-{version}-{_digest(root / version)}.tables"
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with locked(copy.with_suffix(".tables.lock")):  # of several workers, one fetches
            if not copy.is_dir():
                _fetch(root, version, copy)
    except OSError as error:
        raise DataError(f"{copy}: tables cannot be written ({error.strerror})") from error
    return copy


def _names(folder: RemotePath) -> list[str]:
    names = [f"{name}.json" for name in (*TABLES, "splits")]
    return [name for name in names if (folder / name).is_file()]


def _digest(folder: RemotePath) -> str:
    """Changes when a table changes, or comes from another place."""
    contents = [(folder / name).content_digest for name in _names(folder)]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]


def _fetch(root: RemotePath, version: str, copy: Path) -> None:
    part = copy.with_suffix(".partial")
    shutil.rmtree(part, ignore_errors=True)
    (part / version).mkdir(parents=True)
    for name in _names(root / version):
        s3.download_file(str(root / version / name), part / version / name)
    for name in _maps(root / version / "map.json"):
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_bytes(read_bytes(root / name))
    part.rename(copy)


def _maps(table: RemotePath) -> list[str]:
    """Files that the table of maps names; the devkit opens each."""
    try:
        names = [row["filename"] for row in json.loads(read_bytes(table))]
        check_inside(names, table)
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"{table}: not a table of maps ({error!r})") from error
    return names
