"""Files and facts on their way to a server, kept on disk until they have arrived."""

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LABEL = "parcel.json"
_CONTENT = "content"


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """One thing to deliver; `content` is a folder of files and is empty where none belong."""

    kind: str
    fields: Mapping[str, str]
    content: Path


class Outbox:
    """A queue of parcels, one folder each; it outlives the process that filled it.

    A parcel is built under a hidden name and renamed when it is complete, so a kill never leaves
    half a parcel. Any thread may post; one thread delivers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in set(folder.iterdir()) - set(self._complete()):
            shutil.rmtree(unfinished)
        self._posted = max((int(path.name) for path in self._complete()), default=0)

    @property
    def folder(self) -> Path:
        """Where the parcels lie."""
        return self._folder

    @contextmanager
    def post(self, kind: str, fields: Mapping[str, str]) -> Iterator[Path]:
        """Queue a parcel; the body of the `with` puts its files into the yielded folder.

        Raises:
            OSError: If the disk refuses; nothing is queued then, nor when the body raises.
        """
        with self._lock:
            self._posted += 1
            number = self._posted
        building = self._folder / f".{number:06d}"
        content = building / _CONTENT
        content.mkdir(parents=True)
        try:
            yield content
            (building / _LABEL).write_text(json.dumps({"kind": kind, "fields": dict(fields)}))
            building.rename(self._folder / f"{number:06d}")
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise

    def pending(self) -> list[Parcel]:
        """Parcels that have not been delivered, oldest first."""
        return [_open_parcel(path) for path in self._complete()]

    def settle(self, parcel: Parcel) -> None:
        """Forget a parcel: it was delivered, or it never can be."""
        folder = parcel.content.parent
        (folder / _LABEL).unlink()
        shutil.rmtree(folder)

    def _complete(self) -> list[Path]:
        return sorted(label.parent for label in self._folder.glob(f"[0-9]*/{_LABEL}"))


def _open_parcel(folder: Path) -> Parcel:
    label = json.loads((folder / _LABEL).read_text())
    return Parcel(kind=label["kind"], fields=label["fields"], content=folder / _CONTENT)
