"""Metric records on disk, one JSON object a line: what a process kill must not lose."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from mono3d.tracking.records import MetricRecord

_logger = logging.getLogger(__name__)


class Spool:
    """An append-only file of metric records with one writer and any number of readers.

    Every append reaches the operating system before it returns, so it outlives `kill -9` (not a
    power cut). What a kill cut off in mid-line is dropped. Times and values come back exactly;
    NaN and infinities are kept, as Python's JSON dialect writes them.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._path = path
        self._drop_torn_line()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def append(self, records: Sequence[MetricRecord]) -> None:
        """Add records in order.

        Raises:
            OSError: If the file cannot be written, for example on a full disk.
        """
        with self._path.open("ab") as file:
            file.write("".join(map(_to_line, records)).encode())

    def read(self, from_step: int = 0) -> list[MetricRecord]:
        """Records of step `from_step` and later, in the order they were added."""
        lines = self._path.read_bytes().splitlines()
        records = (_from_line(line) for line in lines)
        return [record for record in records if record and record.step >= from_step]

    def compact(self, from_step: int) -> None:
        """Forget records of steps before `from_step`; a kill leaves the old file or the new."""
        kept = self.read(from_step)
        shadow = self._path.with_name(f"{self._path.name}.compact")
        shadow.write_bytes("".join(map(_to_line, kept)).encode())
        shadow.replace(self._path)

    def clear(self) -> None:
        """Forget all records."""
        os.truncate(self._path, 0)

    def _drop_torn_line(self) -> None:
        written = self._path.read_bytes()
        whole = written.rfind(b"\n") + 1
        if whole < len(written):
            os.truncate(self._path, whole)


def _to_line(record: MetricRecord) -> str:
    metrics = {key: float(value) for key, value in record.metrics.items()}
    line = {"step": record.step, "time_ms": record.time_ms, "metrics": metrics}
    return json.dumps(line, separators=(",", ":")) + "\n"


def _from_line(line: bytes) -> MetricRecord | None:
    """None for a line that is not a record: cut off while another process writes it, or damaged."""
    try:
        fields = json.loads(line)
        return MetricRecord(
            step=int(fields["step"]), time_ms=int(fields["time_ms"]), metrics=fields["metrics"]
        )
    except (ValueError, KeyError, TypeError):
        _logger.warning("skipped a spool line that is no metric record: %.80r", line)
        return None
