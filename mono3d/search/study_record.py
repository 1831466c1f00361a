"""What is known of a study's runs, in one JSON file that is rewritten whole after each of them.

The file says with what config and on what data a result was found, so that it may be committed, and
a later study, on another machine too, need not repeat what is in it.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from mono3d.config.load import flatten
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError, DataError

# What decides where and how a run works, or what is kept of it, never what it computes; the data
# are known by their own fingerprint.
_IGNORED = (
    "cluster.cpus_per_worker", "cluster.max_failures", "cluster.storage", "checkpoint.",
    "data.root", "data.blob_root", "evaluation.batch_size", "input.cache_gib",
    "input.loader_processes", "tracking.",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What came of one run."""

    variant: str
    seed: int
    fingerprint: str
    """See `cell_fingerprint`."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the last evaluation; those that the study compares."""
    steps: int = 0
    seconds: float = 0.0
    checkpoint: str | None = None
    run_id: str | None = None
    """In MLflow."""
    error: str | None = None
    """Why there is no result; such a run is tried again."""


def cell_fingerprint(config: RunConfig, data: Mapping[str, str]) -> str:
    """Sixteen hex digits that runs share which compute the same on the same data.

    Args:
        config: Of the run.
        data: Fingerprint of each split.
    """
    decides = {k: v for k, v in flatten(config).items() if not k.startswith(_IGNORED)}
    text = json.dumps([decides, dict(data)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class StudyRecord:
    """The results of a study, safe to add to from several threads."""

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Raises:
            ConfigError: The file is something else.
        """
        self.path = path
        self._lock = Lock()
        self._facts: dict[str, Any] = {}
        self._cells: dict[tuple[str, int], CellResult] = {}
        if not path.exists():
            return
        try:
            for cell in json.loads(path.read_text())["cells"]:
                result = CellResult(**cell)
                self._cells[result.variant, result.seed] = result
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}: is not a study's results ({type(error).__name__}: {error}); give another "
                "file, or remove it"
            ) from error

    def describe(self, **facts: Any) -> None:
        """Set facts about the study, and write; results are kept.

        Raises:
            DataError: The file cannot be written.
        """
        with self._lock:
            self._facts |= facts
            self._write()

    def add(self, result: CellResult) -> None:
        """Add a result, or replace an older one of the same run, and write.

        Raises:
            DataError: The file cannot be written.
        """
        with self._lock:
            self._cells[result.variant, result.seed] = result
            self._write()

    def find(self, variant: str, seed: int, fingerprint: str) -> CellResult | None:
        """A result that still holds: of the same config on the same data."""
        found = self._cells.get((variant, seed))
        is_it = found is not None and found.error is None and found.fingerprint == fingerprint
        return found if is_it else None

    def results(self, wanted: Sequence[tuple[str, int]]) -> list[CellResult]:
        """The results of some runs, failed ones included, in their order."""
        return [self._cells[key] for key in wanted if key in self._cells]

    def _write(self) -> None:
        cells = [asdict(cell) for cell in self._cells.values()]
        # Its own last character of a number is below what any run repeats.
        content = _rounded({**self._facts, "cells": cells})
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(content, indent=1) + "\n")
            part.replace(self.path)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from error


def _rounded(value: Any) -> Any:
    """Floats to six digits, others than finite ones as null."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
