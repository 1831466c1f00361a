"""What a run's folder says about the run: its config while it goes on, its result at the end.

`<storage>/<name>/` holds `run.json`, `checkpoints/` and, once the run is over, `result.json`.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mono3d.config.load import flatten, parse
from mono3d.config.schema import RunConfig
from mono3d.errors import CheckpointError, ConfigError, StorageError
from mono3d.storage.location import exists, is_s3, join, local_path, read_bytes, write_bytes
from mono3d.tracking.records import MetricRecord
from mono3d.training.checkpoint import read_metadata

CHECKPOINTS = "checkpoints"
_RUN = "run.json"
_RESULT = "result.json"
_INITIAL = "initial_checkpoint"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
RUNS_FOLDER = Path("runs")
"""Where runs are unless `cluster.storage` says otherwise, and what a driver keeps of them."""

# A resumed run may differ in what decides how it runs, never in what it computes.
_MAY_DIFFER = frozenset(
    {
        "cluster.max_failures",
        "cluster.cpus_per_worker",
        "evaluation.batch_size",
        "input.loader_processes",
        "input.cache_gib",
        "data.root",
        "data.blob_root",
        "distillation.teacher",  # checkpoints know it by its weights
        "distillation.assistant",  # and it
    }
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
    storage = config.cluster.storage or str(RUNS_FOLDER)
    return join(storage if is_s3(storage) else local_path(storage).resolve(), name)


def open_run(location: str, config: RunConfig) -> RunResult | None:
    """Register a run in its folder; the same name again means the same run.

    What `train.init_from` names is looked up once, here: the best checkpoint of a run may change.

    Returns:
        The result if the run is over, else None.

    Raises:
        ConfigError: A run with another config has this name, or `train.init_from` names nothing.
        CheckpointError: What it names is no checkpoint.
        StorageError: The folder cannot be read or written.
    """
    path = join(location, _RUN)
    if not exists(path):
        facts: dict[str, Any] = {"config": config.model_dump(mode="json")}
        if config.train.init_from is not None:
            facts[_INITIAL] = resolve_checkpoint(config.train.init_from)
            read_metadata(facts[_INITIAL])
        write_bytes(path, json.dumps(facts, indent=2).encode())
        return None
    _check_same(_stored_config(path), config, location)
    return read_result(location)


def initial_checkpoint(location: str) -> str | None:
    """The checkpoint whose weights a registered run starts with, if it is to start with any.

    Raises:
        StorageError: The folder cannot be read.
    """
    _, initial = _read_run(join(location, _RUN))
    return initial


def resolve_checkpoint(text: str) -> str:
    """Location of a checkpoint named by itself, by its run's folder, or by an MLflow run id.

    Raises:
        ConfigError: If it is none of these.
        Mono3dError: If storage or the tracking server cannot be asked.
    """
    if is_s3(text) or Path(text).exists():
        location = text if is_s3(text) else str(Path(text).resolve())
        result = read_result(location)
        return location if result is None else result.best_checkpoint
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not tracking_uri:
        raise ConfigError(
            f"checkpoint {text!r}: no such folder; an MLflow run id needs MLFLOW_TRACKING_URI"
        )
    from mono3d.tracking.mlflow_runs import find_run

    run = find_run(tracking_uri, text)
    if run.checkpoint_uri is None:
        raise CheckpointError(f"MLflow run {text}: has no checkpoint yet (status {run.status})")
    return run.checkpoint_uri


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


def is_free(location: str) -> bool:
    """Whether no run was ever registered in the folder.

    Raises:
        StorageError: The folder cannot be read.
    """
    return not exists(join(location, _RUN))


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


def _read_run(path: str) -> tuple[dict[str, Any], str | None]:
    """A run's config as a tree, and its initial checkpoint."""
    try:
        facts = json.loads(read_bytes(path))
        return facts["config"], facts.get(_INITIAL)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: damaged; choose another run name") from error


def _stored_config(path: str) -> RunConfig:
    tree, _ = _read_run(path)
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
