"""What is known of a study's runs, in one JSON file that is rewritten whole after each of them.

The file says with what config and on what data a result was found, so that it may be committed, and
a later study, on another machine too, need not repeat what is in it. A result is never replaced by
that of another config or other data, nor by a failure.
"""

import fcntl
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from mono3d.config.load import flatten, parse
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError, DataError, Mono3dError
from mono3d.storage.local_cache import cache_folder

# What decides where and how a run works, or what is kept of it, never what it computes; the data
# and a teacher are known by their own fingerprints, and the seed stands beside the config.
_IGNORED_SECTIONS = ("checkpoint.", "tracking.")
_IGNORED = frozenset({
    "cluster.cpus_per_worker", "cluster.gpus_per_worker", "cluster.max_failures",
    "cluster.storage", "distillation.teacher", "distillation.assistant", "evaluation.batch_size",
    "input.cache_gib", "input.loader_processes", "seed", "train.threads_per_worker",
})  # fmt: skip
_VARIANTS = "variants"
TEACHER = "teacher"
"""Among the fingerprints of data."""
_PLACES = ("root", "blob_root", "pseudo_labels")
"""Of data, in whatever section."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What decides a run's result, its seed aside."""

    config: RunConfig
    data: Mapping[str, str]
    """Fingerprint of each split, and of the teacher if there is one."""

    @property
    def settings(self) -> dict[str, str]:
        """The keys of the config that decide."""
        return {
            key: value
            for key, value in flatten(self.config).items()
            if not (key in _IGNORED or key.startswith(_IGNORED_SECTIONS))
            and not (key.startswith("data.") and key.endswith(_PLACES))
        }

    @property
    def digest(self) -> str:
        """Eight hex digits."""
        text = json.dumps([self.settings, dict(self.data)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What came of one run."""

    variant: str
    seed: int
    identity: str
    """Digest under which its config and data are in the file."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the last evaluation; those that the study compares."""
    steps: int = 0
    seconds: float = 0.0
    """Of the call that finished it; a run that was resumed took longer."""
    checkpoint: str | None = None
    """The last one, which the metrics are of."""
    run_id: str | None = None
    """In MLflow."""
    error: str | None = None
    """Why there is no result; such a run is tried again."""


class StudyRecord:
    """The results of a study, safe to add to from several threads."""

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Raises:
            ConfigError: The file is something else.
        """
        self.path = path
        self._lock = Lock()
        self._read()

    def _read(self) -> None:
        self._facts: dict[str, Any] = {}
        self._identities: dict[str, dict[str, Any]] = {}
        self._cells: dict[tuple[str, int, str], CellResult] = {}
        if not self.path.exists():
            return
        try:
            content = json.loads(self.path.read_text())
            for cell in content.pop("cells"):
                result = CellResult(**cell)
                self._cells[_key(result)] = result
            self._identities = dict(content.pop("identities"))
            self._facts = content
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{self.path}: is not a study's results ({type(error).__name__}: {error}); give "
                "another file, or remove it"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For this process alone, until it ends: two that write would lose each other's results.

        What another one has added since is read.

        Raises:
            ConfigError: Another process works on the file, or has put something else there.
            DataError: The lock cannot be written.
        """
        name = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:16]
        # Not in /tmp, where another user may have put a link of this name.
        lock = cache_folder() / f"study-{name}.lock"
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("w")
        except OSError as error:
            raise DataError(f"{lock}: cannot be written ({error.strerror})") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(f"{self.path}: another study is writing to it") from None
            self._read()
            yield

    def describe(self, **facts: Any) -> None:
        """Set facts about the study, and write; variants come to stand beside those of before.

        Raises:
            DataError: The file cannot be written.
        """
        with self._lock:
            before = self._facts.get(_VARIANTS)
            self._facts |= facts
            if _VARIANTS in facts and isinstance(before, dict):
                self._facts[_VARIANTS] = before | facts[_VARIANTS]
            self._write()

    def add(self, result: CellResult, identity: Identity) -> None:
        """Add a result, or replace an older one of the same run, and write.

        Raises:
            DataError: The file cannot be written.
        """
        with self._lock:
            self._cells[_key(result)] = result
            tree = identity.config.model_dump(mode="json", exclude={"seed"})
            self._identities[result.identity] = {"config": tree, "data": dict(identity.data)}
            self._write()

    def find(
        self, variant: str, seed: int, config: RunConfig, data: Mapping[str, str]
    ) -> CellResult | None:
        """A result that still holds: of the same config, as the schema now reads it, and data.

        Args:
            variant: Of the run.
            seed: Of the run.
            config: Of the run.
            data: As in its identity.
        """
        found = self.of_any_data(variant, seed, config)
        return next((result for known, result in found if known == dict(data)), None)

    def of_any_data(
        self, variant: str, seed: int, config: RunConfig
    ) -> list[tuple[dict[str, str], CellResult]]:
        """Results of a config, as the schema now reads it, each with the data it was found on."""
        wanted = Identity(config=config, data={}).settings
        found = []
        for result in self._cells.values():
            if (result.variant, result.seed) == (variant, seed) and result.error is None:
                known = self._identity(result.identity)
                if known is not None and known.settings == wanted:
                    found.append((dict(known.data), result))
        return found

    def _identity(self, digest: str) -> Identity | None:
        """None where today's schema no longer knows what a run of then was."""
        stored = self._identities.get(digest)
        if stored is None:
            return None
        try:
            return Identity(
                config=parse(stored["config"], source=str(self.path)), data=stored["data"]
            )
        except Mono3dError:
            return None

    def _write(self) -> None:
        cells = [asdict(cell) for cell in self._cells.values()]
        # Configs are read again, and stay as they are.
        content = {**_rounded({**self._facts, "cells": cells}), "identities": self._identities}
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(content, indent=1) + "\n")
            part.replace(self.path)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from error


def _key(result: CellResult) -> tuple[str, int, str]:
    return result.variant, result.seed, result.identity


def _rounded(value: Any) -> Any:
    """Floats to six digits, others than finite ones as null."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(item) for item in value]
    return value
