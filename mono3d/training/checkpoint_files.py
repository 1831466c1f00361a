"""The files of a checkpoint: sealed by a manifest, and refused where they do not match it.

The manifest is written last, so a directory without one was never finished.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mono3d.errors import CheckpointError, StorageError
from mono3d.storage.digests import sha256
from mono3d.storage.location import exists, join, local_copy, read_bytes

MANIFEST = "manifest.json"
_FORMAT = 1


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Fill a directory out of sight; it appears whole, with its manifest, or not at all."""
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    _write_manifest(part)
    if directory.exists():
        shutil.rmtree(directory)
    part.rename(directory)


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
    except StorageError as error:
        # The manifest could be read a moment ago, so the store is there: the checkpoint is bad.
        raise CheckpointError(f"checkpoint {location}: {error}") from error


def read_verified(location: str | Path, name: str) -> bytes:
    """One small file of a checkpoint, compared with the manifest; the others are not read.

    Raises:
        CheckpointError: It is not there or damaged, or the checkpoint is incomplete.
        StorageError: The store cannot be asked.
    """
    expected = digest(location, name)
    content = read_bytes(join(location, name))
    if hashlib.sha256(content).hexdigest() != expected:
        raise _damaged(location, name)
    return content


def digest(location: str | Path, name: str) -> str:
    """The sha256 that the manifest says of one file of a checkpoint; the file is not read.

    Raises:
        CheckpointError: It is not there, or the checkpoint is incomplete.
        StorageError: The store cannot be asked.
    """
    entry = _read_manifest(location).get(name)
    if entry is None:
        raise CheckpointError(f"checkpoint {location}: holds no {name}")
    return str(entry["sha256"])


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
    except (ValueError, KeyError, TypeError, StorageError) as error:
        raise CheckpointError(f"{path}: damaged, it is no manifest of a checkpoint") from error
    if found != _FORMAT:
        raise CheckpointError(f"{path}: format {found}, this version of mono3d reads {_FORMAT}")
    return files


def _check_file(location: str | Path, path: Path, entry: Mapping[str, object]) -> None:
    if not path.is_file():
        raise CheckpointError(f"checkpoint {location}: {path.name} is missing; use another one")
    size = path.stat().st_size
    if size != entry["size"]:
        raise CheckpointError(
            f"checkpoint {location}: {path.name} has {size} bytes, {entry['size']} were written; "
            "use another one"
        )
    if sha256(path) != entry["sha256"]:
        raise _damaged(location, path.name)


def _damaged(location: str | Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {location}: {name} is damaged, its sha256 is not the one that was written; "
        "use another one"
    )
