"""The files of a checkpoint: sealed by a manifest, and refused where they do not match it.

The manifest is written last, so a directory without one was never finished.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from mono3d.errors import CheckpointError, StorageAwayError, StorageError
from mono3d.storage.digests import sha256
from mono3d.storage.local_cache import cache_folder
from mono3d.storage.location import exists, is_s3, join, local_copy, read_bytes
from mono3d.storage.object_cache import ObjectCache

MANIFEST = "manifest.json"
_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CACHE_BYTES = 10 * 1024**3
"""Of files of checkpoints in stores, on this machine."""


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Fill a directory out of sight; it appears whole, with its manifest, or not at all.

    Raises:
        StorageError: It cannot be written, as where there is no room.
    """
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        _write_manifest(part)
        if directory.exists():
            shutil.rmtree(directory)
        part.rename(directory)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)  # on a full disk it is in the way
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"cannot write {directory}: {reason}") from error


def _write_manifest(directory: Path) -> None:
    files = {
        path.name: {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(directory.iterdir())
    }
    (directory / MANIFEST).write_text(json.dumps({"format": _FORMAT, "files": files}, indent=2))


@contextmanager
def verified_copy(location: str | Path) -> Iterator[Path]:
    """A local directory with a checkpoint's files, each one compared with the manifest.

    Raises:
        CheckpointError: It is incomplete or damaged, or of another format.
        StorageError: The store cannot be asked.
    """
    files = _read_manifest(location)
    try:
        with local_copy(location, last=MANIFEST) as directory:
            for name, entry in files.items():
                _check_file(location, directory / name, entry)
            yield directory
    except StorageAwayError:
        raise
    except StorageError as error:  # the store is there: the checkpoint is bad
        raise CheckpointError(f"checkpoint {location}: {error}") from error


def read_verified(location: str | Path, name: str) -> bytes:
    """One file of a checkpoint, compared with the manifest; the others are not read.

    Of a store it is kept on this machine under its digest: the runs of a search have one teacher.

    Raises:
        CheckpointError: It is not there or damaged, or the checkpoint is incomplete.
        StorageError: The store cannot be asked.
    """
    entry = _entry(location, name)
    expected = str(entry["sha256"])
    cache = ObjectCache(cache_folder() / "checkpoints", limit_bytes=_CACHE_BYTES)
    kept = cache.read(expected, int(str(entry["size"]))) if is_s3(location) else None
    if kept is not None and hashlib.sha256(kept).hexdigest() == expected:
        return kept
    if not exists(join(location, name)):
        raise _missing(location, name)
    content = read_bytes(join(location, name))
    _check_size(location, name, len(content), entry)
    if hashlib.sha256(content).hexdigest() != expected:
        raise _damaged(location, name)
    if is_s3(location):
        cache.write(expected, content)
    return content


def digest(location: str | Path, name: str) -> str:
    """The sha256 that the manifest says of one file of a checkpoint; the file is not read.

    Raises:
        CheckpointError: It is not there, or the checkpoint is incomplete.
        StorageError: The store cannot be asked.
    """
    return str(_entry(location, name)["sha256"])


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Store named tensors; memory layouts are not kept."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors, on the CPU.

    Raises:
        CheckpointError: The file is missing or not of this format.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error
    return tensors


def tensors_of(content: bytes, source: str) -> dict[str, Tensor]:
    """Named tensors from the content of a file, on the CPU.

    Raises:
        CheckpointError: It is not of this format.
    """
    try:
        tensors: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{source}: cannot be read as safetensors: {error}") from error
    return {name: tensors[name] for name in sorted(tensors)}


def _entry(location: str | Path, name: str) -> dict[str, object]:
    entry = _read_manifest(location).get(name)
    if entry is None:
        raise CheckpointError(f"checkpoint {location}: holds no {name}")
    return entry


def _read_manifest(location: str | Path) -> dict[str, dict[str, object]]:
    path = join(location, MANIFEST)
    if not exists(path):
        raise CheckpointError(
            f"{location}: no complete checkpoint, it has no {MANIFEST}; correct the path or use "
            "another one"
        )
    try:
        manifest = json.loads(read_bytes(path))
        files: dict[str, dict[str, object]] = manifest["files"]
        found = manifest["format"]
        wrong = next((name for name, entry in files.items() if not _is_entry(name, entry)), None)
    except StorageAwayError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError, StorageError) as e:
        raise CheckpointError(f"{path}: damaged, it is no manifest of a checkpoint") from e
    if found != _FORMAT:
        raise CheckpointError(f"{path}: format {found}, this version of mono3d reads {_FORMAT}")
    if wrong is not None:
        raise CheckpointError(
            f"{path}: {wrong!r}: must be a file of this folder, with its size and sha256"
        )
    return files


def _is_entry(name: str, entry: Mapping[str, object]) -> bool:
    """Whether a manifest may say so: names and digests become paths."""
    return (
        Path(name).name == name not in {"", "..", MANIFEST}
        and isinstance(entry["size"], int)
        and _SHA256.fullmatch(str(entry["sha256"])) is not None
    )


def _check_file(location: str | Path, path: Path, entry: Mapping[str, object]) -> None:
    if not path.is_file():
        raise _missing(location, path.name)
    _check_size(location, path.name, path.stat().st_size, entry)
    if sha256(path) != entry["sha256"]:
        raise _damaged(location, path.name)


def _check_size(location: str | Path, name: str, size: int, entry: Mapping[str, object]) -> None:
    if size != entry["size"]:
        raise CheckpointError(
            f"checkpoint {location}: {name} has {size} bytes, {entry['size']} were written; "
            "use another one"
        )


def _missing(location: str | Path, name: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {location}: {name} is missing; use another one")


def _damaged(location: str | Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {location}: {name} is damaged, its sha256 is not the one that was written; "
        "use another one"
    )
