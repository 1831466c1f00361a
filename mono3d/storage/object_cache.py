"""Contents of objects on this machine's disk: bounded, and shared by all processes.

Reading takes no lock. A file appears whole or not at all, and may vanish at any time: whoever finds
it gone fetches the object again. Writers take turns, so that together they keep the limit.
"""

import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mono3d.storage.local_cache import locked

_logger = logging.getLogger(__name__)

_USED_PRECISION_S = 60.0
"""Times of use that are younger are not written down again: a read is then nothing but a read."""
_KEPT_SHARE = 0.9
"""Of the limit, after files had to go: they go in batches, since finding the oldest takes long."""
_FREE_BYTES = 1024**3
"""Left to others on the disk: a full one would cost a run its checkpoints."""


@dataclass(frozen=True)
class ObjectCache:
    """Files by key; those that were not used for longest go first. A plain value."""

    folder: Path
    limit_bytes: int
    """Of all files together; what does not fit is not kept."""

    def read(self, key: str, size: int) -> bytes | None:
        """Content of a key, None if it is not here.

        Args:
            key: Hexadecimal digest; another content has another key.
            size: Bytes. A file of another size was damaged, as by a power cut, and counts as none.
        """
        path = self._path(key)
        try:
            with path.open("rb") as stream:
                content = stream.read()
                used = os.fstat(stream.fileno()).st_mtime
        except OSError:
            return None
        if len(content) != size:
            return None
        if time.time() - used > _USED_PRECISION_S:
            with suppress(OSError):  # evicted meanwhile, or not ours to change
                os.utime(path)
        return content

    def holds(self, key: str) -> bool:
        """Whether there is a file of this key; it may be gone when it is read."""
        return self._path(key).exists()

    def write(self, key: str, content: bytes) -> None:
        """Keep the content of a key; where that cannot be done, it is said once and left out."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / "lock"):
                if self._make_room(len(content)):
                    _write_whole(self._path(key), content)
        except OSError as error:
            _warn(self.folder, error.strerror)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _make_room(self, size: int) -> bool:
        """Whether a file of this size may be written; it is counted as if it were."""
        used = self._used_bytes()
        free = shutil.disk_usage(self.folder).free
        limit = min(self.limit_bytes, used + free - _FREE_BYTES)
        if size > limit:
            return False
        if used + size > limit:
            used = self._evict(int(_KEPT_SHARE * limit) - size)
        (self.folder / "used").write_text(str(used + size))
        return True

    def _used_bytes(self) -> int:
        """Counted along with every file; by looking where the count was lost."""
        try:
            return int((self.folder / "used").read_text())
        except (OSError, ValueError):
            return sum(size for _, size, _ in self._files())

    def _evict(self, wanted: int) -> int:
        """Remove files until no more than so many bytes are left, if any; returns how many are."""
        oldest_first = sorted(self._files())
        left = sum(size for _, size, _ in oldest_first)
        for _, size, path in oldest_first:
            if left <= wanted:
                break
            Path(path).unlink(missing_ok=True)
            left -= size
        return left

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Time of last use, size and path of all files, parts that a killed writer left too."""
        for shard in filter(os.DirEntry.is_dir, os.scandir(self.folder)):
            for entry in os.scandir(shard):
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    yield stat.st_mtime, stat.st_size, entry.path


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f"{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@cache
def _warn(folder: Path, reason: str) -> None:
    _logger.warning("%s: cannot be written (%s); objects are fetched every time", folder, reason)
