"""Files and directories at a location: a local path, a `file://` URI or an `s3://` URI.

A checkpoint, say, is written to S3 by a cluster and to a local directory by a run without one;
who reads or writes it need not know. Every failure is a `StorageError` of one line.
"""

import errno
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from mono3d.errors import StorageAwayError, StorageError
from mono3d.storage import s3
from mono3d.storage.patience import patiently

_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN}
"""Of folders on a network."""


def is_s3(location: str | Path) -> bool:
    """Whether the location is in an object store."""
    return str(location).startswith("s3://")


def join(location: str | Path, name: str) -> str:
    """The location of `name` below a location."""
    return f"{str(location).rstrip('/')}/{name}"


def local_path(location: str | Path) -> Path:
    """The path of a local location.

    Raises:
        StorageError: If it is a URI of another kind than `file://` on this machine.
    """
    if isinstance(location, Path) or "://" not in location:
        return Path(location)
    parts = urlsplit(location)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise StorageError(f"{location!r} is not a location; use a path, file:// or s3://")
    return Path(unquote(parts.path))


def read_bytes(location: str | Path) -> bytes:
    """The content of one file.

    Raises:
        StorageError: If it is not there or cannot be read.
    """
    if is_s3(location):
        return s3.read_bytes(str(location))
    try:
        return local_path(location).read_bytes()
    except OSError as error:
        raise _failed("read", location, error) from error


def write_bytes(location: str | Path, content: bytes) -> None:
    """Write one file; readers see what was there before or all of the new, never a part.

    Raises:
        StorageError: If it cannot be written.
    """
    if is_s3(location):
        s3.write_bytes(str(location), content)
        return
    path = local_path(location)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()  # on a full disk it is in the way
        raise _failed("write", location, error) from error


def check_access(location: str | Path) -> None:
    """Write and delete a small file below a location.

    Raises:
        StorageError: If one of the two fails.
    """
    if is_s3(location):
        s3.check_access(str(location))
        return
    probe = join(location, f".probe-{uuid.uuid4().hex}")
    write_bytes(probe, b"probe")
    _delete_file(probe)


def exists(location: str | Path) -> bool:
    """Whether a file or a directory is there.

    Raises:
        StorageError: If the store cannot be asked.
    """
    return s3.exists(str(location)) if is_s3(location) else local_path(location).exists()


def list_files(location: str | Path) -> list[str]:
    """Names of all files below a directory, relative to it, sorted; empty if it is missing.

    Raises:
        StorageError: If the store cannot be asked.
    """
    if is_s3(location):
        return s3.list_keys(str(location))
    directory = local_path(location)
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(path.relative_to(directory).as_posix() for path in files)


def delete_directory(location: str | Path) -> None:
    """Delete a directory and all below it; no error if it is missing.

    Raises:
        StorageError: If something in it cannot be deleted.
    """
    if is_s3(location):
        s3.delete_prefix(str(location))
        return
    directory = local_path(location)
    try:
        if directory.exists():
            shutil.rmtree(directory)
    except OSError as error:
        raise StorageError(f"cannot delete {location}: {error.strerror}") from error


def upload_directory(
    local: Path,
    location: str | Path,
    *,
    last: str | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Copy every file of a local directory to a location, each one checked where it arrives.

    Args:
        local: The directory; its sub-directories are included, empty ones are not.
        location: Where its files go; other files there stay.
        last: Name of a file that seals the rest, such as a manifest. An older one is removed
            first and the new one written after all others: an upload cut short leaves none.
        say: Told of each file that has to wait for a store that is away; None does not wait.

    Raises:
        StorageError: If the directory or `last` is missing, or a file cannot be stored.
    """

    def do(act: Callable[[], None]) -> None:
        act() if say is None else patiently(act, say)

    names = _ordered(local, last)
    if last is not None:
        do(partial(_delete_file, join(location, last)))
    for name in names:
        do(partial(_upload, local / name, join(location, name)))


def download_directory(location: str | Path, local: Path, *, last: str | None = None) -> None:
    """Copy every file below a location to a local directory, each one checked against its digest.

    Args:
        location: What to fetch.
        local: Made if missing; files of the same name are replaced, others stay.
        last: Name of the file that must be there and is written after all others.

    Raises:
        StorageError: If nothing is there, `last` is missing, or a file is damaged.
    """
    for name in _ordered(location, last):
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise StorageError(f"{name!r} in {location} would be written outside {local}")
        _download(join(location, name), local / name)


@contextmanager
def local_copy(location: str | Path, *, last: str | None = None) -> Iterator[Path]:
    """A local directory with the files of a location: itself if local, else a temporary copy.

    Raises:
        StorageError: As for `download_directory`.
    """
    if not is_s3(location):
        _ordered(location, last)
        yield local_path(location)
        return
    with tempfile.TemporaryDirectory(prefix="mono3d-") as directory:
        download_directory(location, Path(directory), last=last)
        yield Path(directory)


def _ordered(location: str | Path, last: str | None) -> list[str]:
    """Names of all files there, `last` at the end."""
    names = list_files(location)
    if not names:
        raise StorageError(f"nothing is stored in {location}: correct the path")
    if last is None:
        return names
    if last not in names:
        raise StorageError(f"{location} holds no {last}: it is not complete")
    return [*(name for name in names if name != last), last]


def _upload(path: Path, location: str) -> None:
    if not is_s3(location):
        write_bytes(location, read_bytes(path))
        return
    try:
        s3.upload_file(path, location)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def _download(location: str, path: Path) -> None:
    if not is_s3(location):
        write_bytes(path, read_bytes(location))
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(location, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _failed(action: str, location: str | Path, error: OSError) -> StorageError:
    kind = StorageAwayError if error.errno in _PASSING else StorageError
    return kind(f"cannot {action} {location}: {error.strerror}")


def _delete_file(location: str) -> None:
    if is_s3(location):
        s3.delete(location)
    else:
        local_path(location).unlink(missing_ok=True)
