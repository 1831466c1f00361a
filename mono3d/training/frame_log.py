"""What has been found so far: one frame a line, so that work that was killed goes on where it was.

The first line says which call the others belong to. Numbers are exact, so what is made of a log at
the end does not depend on how often the work was interrupted.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import fields
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

from mono3d.errors import ConfigError, DataError
from mono3d.structures import Boxes3D, Detections

Found = TypeVar("Found")
_Self = TypeVar("_Self", bound="FrameLog[Any]")


class FrameLog(ABC, Generic[Found]):
    """A file that grows frame by frame; used as a context."""

    def __init__(self, path: Path, call: Mapping[str, Any]) -> None:
        """Open a log, or begin one.

        Args:
            path: In a folder that is there.
            call: What decides the detections; plain JSON values.

        Raises:
            ConfigError: If the log is that of another call, or another process writes it.
            DataError: If it is damaged.
        """
        self._path = path
        self.done: Mapping[str, int] = {}
        """Where the line of each frame begins, as of the opening or the last `index`."""
        self._stream = path.open("ab")
        try:
            self._take()
            self._cut_half_a_line()
            self.index()
            if self.done:
                self._check_call(call)
            else:
                self._stream.truncate(0)
                self._stream.write(f"{json.dumps({'call': call})}\n".encode())
                self._stream.flush()
        except BaseException:
            self._stream.close()
            raise
        self.count = len(self.done)
        """Frames that are there."""

    @staticmethod
    @abstractmethod
    def encode(found: Found) -> Mapping[str, Any]:
        """What was found in a frame as JSON values."""

    @staticmethod
    @abstractmethod
    def decode(record: Mapping[str, Any]) -> Found:
        """The same read back."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._stream.close()

    def add(self, frame_id: str, found: Found) -> None:
        """Write down what was found in a frame; it is there from now on."""
        line = json.dumps({"frame": frame_id, **self.encode(found)})
        self._stream.write(f"{line}\n".encode())
        self._stream.flush()
        self.count += 1

    def index(self) -> None:
        """Find out which frames are there."""
        self.done = {frame_id: start for start, frame_id, _ in self._lines()}

    def read(self, frame_id: str) -> Found:
        """What was found in a frame that is `done`."""
        with self._path.open("rb") as stream:
            stream.seek(self.done[frame_id])
            return self.decode(json.loads(stream.readline()))

    def __iter__(self) -> Iterator[tuple[str, Found]]:
        """All frames, in the order in which they came."""
        for _, frame_id, record in self._lines():
            yield frame_id, self.decode(record)

    def delete(self) -> None:
        """Remove the file: all of it has been made use of."""
        self._stream.close()
        self._path.unlink()

    def finish(self, path: Path) -> None:
        """Give the file its final name: it is a result as it stands."""
        self._stream.close()
        self._path.replace(path)

    def _lines(self) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
        with self._path.open("rb") as stream:
            start = len(stream.readline())
            for number, line in enumerate(stream, 2):
                try:
                    record = json.loads(line)
                    yield start, record["frame"], record
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(
                        f"{self._path}:{number}: damaged; delete the file to begin anew"
                    ) from error
                start += len(line)

    def _check_call(self, call: Mapping[str, Any]) -> None:
        with self._path.open("rb") as stream:
            try:
                before = dict(json.loads(stream.readline())["call"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{self._path}: no unfinished work of mono3d; choose another --output"
                ) from error
        changed = [name for name in {**before, **call} if before.get(name) != call.get(name)]
        if changed:
            raise ConfigError(
                f"{self._path}: unfinished work of another call ({', '.join(changed)} changed); "
                "repeat that one to finish it, delete the file, or choose another --output"
            )

    def _take(self) -> None:
        """Be the only one; the lock goes with the process, however that ends."""
        try:
            flock(self._stream, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{self._path}: another process is at work on it; choose another --output"
            ) from None

    def _cut_half_a_line(self) -> None:
        """A process that is killed may leave the beginning of a line."""
        with self._path.open("rb+") as stream:
            stream.truncate(sum(len(line) for line in stream if line.endswith(b"\n")))


class PredictionLog(FrameLog[Detections]):
    """Detections of frames, exactly as they were."""

    @staticmethod
    def encode(found: Detections) -> Mapping[str, Any]:
        """Every field as a list."""
        boxes = {field.name: getattr(found.boxes, field.name).tolist() for field in fields(Boxes3D)}
        return {"scores": found.scores.tolist(), **boxes}

    @staticmethod
    def decode(record: Mapping[str, Any]) -> Detections:
        """Every field as a tensor."""
        none = Boxes3D.empty()
        boxes = {
            field.name: torch.tensor(record[field.name], dtype=like.dtype).reshape(
                -1, *like.shape[1:]
            )
            for field in fields(Boxes3D)
            for like in [getattr(none, field.name)]
        }
        return Detections(boxes=Boxes3D(**boxes), scores=torch.tensor(record["scores"]))
