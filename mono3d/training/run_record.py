"""What a run's folder says about the run: its config while it goes on, its result at the end.

`<storage>/<name>/` holds `run.json`, `checkpoints/` and, once the run is over, `result.json`.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from mono3d.config.load import flatten, parse
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError, StorageError
from mono3d.storage.location import exists, is_s3, join, local_path, read_bytes, write_bytes
from mono3d.tracking.records import MetricRecord

CHECKPOINTS = "checkpoints"
_RUN = "run.json"
_RESULT = "result.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DEFAULT_STORAGE = "runs"

# A resumed run may differ in what decides how it runs, never in what it computes.
_MAY_DIFFER = frozenset(
    {"cluster.max_failures", "cluster.cpus_per_worker", "input.loader_processes"}
)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What came of a run."""

    name: str
    steps: int
    """Optimiser steps done."""
    metrics: Mapping[str, float]
    """Of the last evaluation."""
    best_checkpoint: str
    """Path or s3:// URI of the one with the best score."""
    last_checkpoint: str
    run_id: str | None = None
    """In MLflow; None where the run was not tracked."""
    initial_metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the untrained network; empty unless `evaluation.at_start`."""


def run_location(config: RunConfig, name: str) -> str:
    """The run's folder: an absolute path or an s3:// prefix.

    Raises:
        ConfigError: The name could not be the name of a folder.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"run name {name!r}: must be up to 100 letters, digits, dots, dashes and underscores, "
            "the first one a letter or a digit"
        )
    storage = config.cluster.storage or _DEFAULT_STORAGE
    return join(storage if is_s3(storage) else local_path(storage).resolve(), name)


def open_run(location: str, config: RunConfig) -> RunResult | None:
    """Register a run in its folder; the same name again means the same run.

    Returns:
        The result if the run is over, else None.

    Raises:
        ConfigError: A run with another config has this name.
        StorageError: The folder cannot be read or written.
    """
    path = join(location, _RUN)
    if not exists(path):
        tree = {"config": config.model_dump(mode="json")}
        write_bytes(path, json.dumps(tree, indent=2).encode())
        return None
    _check_same(_stored_config(path), config, location)
    return read_result(location)


def is_open_to(location: str, config: RunConfig) -> bool:
    """Whether a run of this config can start or go on in the folder: none there, or it unfinished.

    Raises:
        StorageError: The folder cannot be read.
    """
    path = join(location, _RUN)
    if not exists(path):
        return True
    try:
        _check_same(_stored_config(path), config, location)
    except ConfigError:
        return False
    return read_result(location) is None


def read_result(location: str) -> RunResult | None:
    """The result of a run that is over, None while it is not.

    Raises:
        StorageError: The folder cannot be read.
    """
    path = join(location, _RESULT)
    if not exists(path):
        return None
    try:
        return RunResult(**json.loads(read_bytes(path)))
    except (ValueError, TypeError) as error:
        raise StorageError(f"{path}: damaged; delete it and start the run again") from error


def close_run(location: str, result: RunResult) -> RunResult:
    """Write down that the run is over; metrics that are not finite are left out.

    Raises:
        StorageError: The folder cannot be written.
    """
    result = replace(
        result, metrics=_finite(result.metrics), initial_metrics=_finite(result.initial_metrics)
    )
    write_bytes(join(location, _RESULT), json.dumps(asdict(result), indent=2).encode())
    return result


def initial_metrics(records: Iterable[MetricRecord]) -> dict[str, float]:
    """What was measured before the first step."""
    return {k: v for record in records if record.step == 0 for k, v in record.metrics.items()}


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _stored_config(path: str) -> RunConfig:
    try:
        tree = json.loads(read_bytes(path))["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: damaged; choose another run name") from error
    return parse(tree, source=path)


def _check_same(stored: RunConfig, config: RunConfig, location: str) -> None:
    before, now = flatten(stored), flatten(config)
    for key in sorted((before.keys() | now.keys()) - _MAY_DIFFER):
        was, wanted = before.get(key, "nothing"), now.get(key, "nothing")
        if was != wanted:
            raise ConfigError(
                f"{key}={wanted}: the run in {location} has {was}; "
                "take another run name, or the old value to go on with it"
            )
