"""Files of a data set, in a folder or in an S3 store: read whole or refused."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float

from mono3d.errors import DataError
from mono3d.storage.local_cache import cache_folder
from mono3d.storage.location import is_s3, local_path
from mono3d.storage.object_cache import ObjectCache
from mono3d.storage.remote_path import RemotePath
from mono3d.storage.s3 import MAX_CONNECTIONS

DataPath: TypeAlias = Path | RemotePath
T = TypeVar("T")

DEFAULT_CACHE_GIB = 50.0


def data_path(location: str | Path, *, cache_gib: float = DEFAULT_CACHE_GIB) -> DataPath:
    """A file or folder to read data from.

    Args:
        location: A path, a `file://` URI or an `s3://` URI; objects of a store are read through
            this machine's cache, `objects` in `cache_folder`.
        cache_gib: Limit of that cache; 0 keeps nothing.

    Raises:
        StorageError: If it is a URI of another kind.
    """
    if not is_s3(location):
        return local_path(location)
    cache = ObjectCache(cache_folder() / "objects", limit_bytes=int(cache_gib * 1024**3))
    return RemotePath.at(str(location), cache)


def check_inside(names: Iterable[str], source: DataPath) -> None:
    """Refuse names that a file of a data set gives to others, and that lead out of their folder.

    Files are read by them, and results are written by them. Links are followed: they are the disk's
    owner's, not the data set's.

    Args:
        names: Relative to a folder.
        source: Where they stand.

    Raises:
        DataError: One is absolute or empty, or has a part `..`.
        TypeError: One is no text.
    """
    for name in names:
        parts = os.fspath(name).split("/")  # nuScenes has millions of them
        if parts[0] in {"", "."} or ".." in parts or "\0" in name:
            raise DataError(f"{source}: {name!r} lies outside the data set")


def read_bytes(path: DataPath) -> bytes:
    """Content of a file.

    Raises:
        DataError: If it is missing or unreadable.
        StorageError: If the store that holds it cannot be used.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def read_text(path: DataPath) -> str:
    """Content of an ASCII file.

    Raises:
        DataError: If it is missing, unreadable or not such a file.
        StorageError: If the store that holds it cannot be used.
    """
    try:
        return read_bytes(path).decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file (byte {error.start})") from error


def read_points(path: DataPath, values_per_point: int) -> Float[np.ndarray, "n values"]:
    """Points of a LiDAR sweep stored as float32, one after the other; not to be written to.

    Raises:
        DataError: If the file is missing, empty, cut short, or holds numbers that are not finite.
        StorageError: If the store that holds it cannot be used.
    """
    content = read_bytes(path)
    size = 4 * values_per_point
    if not content or len(content) % size:
        raise DataError(f"{path}: {len(content)} bytes are no whole number of {size}-byte points")
    points = np.frombuffer(content, dtype=np.float32).reshape(-1, values_per_point)
    if not np.isfinite(points).all():
        raise DataError(f"{path}: a point is not finite")
    return points


def read_each(read: Callable[[DataPath], T], paths: Sequence[DataPath]) -> list[T]:
    """What `read` makes of each of many small files; those to be fetched are, side by side."""
    away = [path for path in paths if isinstance(path, RemotePath) and not path.is_cached()]
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:  # no thread is started for no file
        fetched = dict(zip(away, pool.map(read, away), strict=True))
    return [fetched[path] if path in fetched else read(path) for path in paths]


def list_names(folder: DataPath) -> list[str]:
    """Names of the files directly in a folder, sorted; empty if it is missing.

    Raises:
        StorageError: If the store that holds it cannot be asked.
    """
    if isinstance(folder, RemotePath):
        return [name.decode() for name in folder.listing().names.tolist()]
    # A link to nowhere is a file that cannot be read, not one that is left out in silence.
    return sorted(entry.name for entry in _entries(folder) if not entry.is_dir())


def list_folders(folder: DataPath) -> list[str]:
    """Names of the folders directly in a folder, sorted; empty if it is missing.

    Raises:
        StorageError: If the store that holds it cannot be asked.
    """
    if isinstance(folder, RemotePath):
        return sorted(folder.listing().folders)
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def list_ahead(folders: Iterable[DataPath]) -> None:
    """List folders of a store side by side now, not in each process that reads from them later.

    Raises:
        StorageError: If the store cannot be asked.
    """
    remote = [folder for folder in folders if isinstance(folder, RemotePath)]
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        list(pool.map(RemotePath.listing, remote))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
