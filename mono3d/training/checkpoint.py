"""`TrainState` ↔ a directory, local or in S3: safetensors for numbers, JSON for facts, no pickle.

`model.safetensors` holds the student, the objective's mining state and the adapters (a teacher is
never saved), `ema.safetensors` the student's averaged weights, `optimiser.safetensors` the
optimiser's state by parameter name, `state.json` where the run stands and what it is,
`metrics.jsonl` the metrics so far, and PNG files draw the evaluation at this moment. There is no
random state to save: every random number of a run is a function of its seed and of (epoch, index)
or (step, rank).
"""

import json
import math
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from mono3d.errors import CheckpointError
from mono3d.model.heads import output_rows
from mono3d.training.checkpoint_files import (
    new_directory,
    read_tensors,
    read_verified,
    tensors_of,
    verified_copy,
    write_tensors,
)
from mono3d.training.optimiser_state import load_optimiser_tensors, optimiser_tensors
from mono3d.training.state import TrainState

MODEL = "model.safetensors"
EMA = "ema.safetensors"
OPTIMISER = "optimiser.safetensors"
STATE = "state.json"
METRICS = "metrics.jsonl"
FIGURES = "last_evaluation"
"""Folder, beside a running process's metrics file, of the pictures of the last evaluation."""

_LIBRARIES = ("mono3d", "torch", "numpy", "transformers", "safetensors", "ray")
_STUDENT = "student."
_DATA_NAMES = {
    "train": "split train",
    "val": "split val",
    "teacher": "the teacher",
    "assistant": "the assistant",
}


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run is; stays the same from its first checkpoint to its last."""

    config: Mapping[str, Any]
    """The resolved config as a tree."""
    fingerprint: str
    """Of the config."""
    data: Mapping[str, Any]
    """Splits and fingerprint of the data set."""


@dataclass(frozen=True, kw_only=True)
class CheckpointMetadata:
    """What `state.json` says."""

    epoch: int
    """Epochs done."""
    batch: int
    """Micro-batches of one rank done in the epoch that goes on."""
    step: int
    """Optimiser steps done."""
    skipped: int
    """Steps whose gradient was not finite."""
    metrics: Mapping[str, float]
    """Of the evaluation at this moment, finite ones only; empty in the middle of an epoch."""
    config: Mapping[str, Any]
    fingerprint: str
    data: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)
    """Python, and libraries that had a part in it."""
    output_rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of the student; see `mono3d.model.heads.output_rows`."""


def checkpoint_name(step: int) -> str:
    """Name of the directory of a checkpoint."""
    return f"step_{step:08d}"


def save_checkpoint(
    state: TrainState,
    directory: Path,
    *,
    facts: RunFacts,
    metrics: Mapping[str, float],
    spool: Path | None = None,
    figures: Path | None = None,
) -> None:
    """Write a local directory, whole or not at all; one of the same name is replaced.

    Args:
        state: Between two steps.
        directory: To create; its parents are made.
        facts: What the run is.
        metrics: Of the evaluation at this moment; those that are not finite are left out.
        spool: The metrics file so far, to be kept with the weights.
        figures: Folder of the pictures of this evaluation, to be kept too.
    """
    metadata = CheckpointMetadata(
        epoch=state.epoch,
        batch=state.batch,
        step=state.step,
        skipped=int(state.skipped),
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        config=facts.config,
        fingerprint=facts.fingerprint,
        data=facts.data,
        versions=_versions(),
        output_rows=output_rows(state.train_module.student),
    )
    with new_directory(directory) as part:
        write_tensors(state.train_module.state_dict(), part / MODEL)
        write_tensors(state.ema.values, part / EMA)
        write_tensors(optimiser_tensors(state.train_module, state.optimizer), part / OPTIMISER)
        (part / STATE).write_text(json.dumps(asdict(metadata), indent=2, allow_nan=False))
        if spool is not None and spool.exists():
            shutil.copyfile(spool, part / METRICS)
        if figures is not None:
            copy_figures(figures, part)


def copy_figures(source: Path, target: Path) -> list[Path]:
    """Copy the pictures of one folder to another; returns their new paths."""
    target.mkdir(parents=True, exist_ok=True)
    return [
        Path(shutil.copyfile(path, target / path.name)) for path in sorted(source.glob("*.png"))
    ]


def load_checkpoint(
    location: str | Path,
    state: TrainState,
    *,
    spool: Path | None = None,
    data: Mapping[str, Any] | None = None,
) -> CheckpointMetadata:
    """Bring a fresh state to where the checkpoint was written; nothing changes if it is refused.

    Args:
        location: A local path or an s3:// URI.
        state: Of the same architecture, on any device.
        spool: Where the checkpoint's metrics file should go.
        data: `RunFacts.data` of the run that goes on; None does not compare.

    Raises:
        CheckpointError: It is incomplete, damaged, of another architecture or of other data.
        StorageError: The store cannot be asked.
    """
    with verified_copy(location) as directory:
        metadata = _parse((directory / STATE).read_bytes(), source=f"{location}/{STATE}")
        _check_data(metadata.data, data or {}, source=str(location))
        model = read_tensors(directory / MODEL)
        ema = read_tensors(directory / EMA)
        optimiser = read_tensors(directory / OPTIMISER)
        module = state.train_module
        _check_same(model, module.state_dict(), source=f"{location}/{MODEL}")
        _check_same(ema, state.ema.values, source=f"{location}/{EMA}")
        load_optimiser_tensors(module, state.optimizer, optimiser, source=f"{location}/{OPTIMISER}")
        module.load_state_dict(model)
        state.ema.load(ema)
        if spool is not None and (directory / METRICS).exists():
            shutil.copyfile(directory / METRICS, spool)
    state.epoch, state.batch, state.step = metadata.epoch, metadata.batch, metadata.step
    state.skipped = torch.full_like(state.skipped, metadata.skipped)
    return metadata


def load_student(
    location: str | Path, network: nn.Module, *, weights: Literal["ema", "model"] = "ema"
) -> CheckpointMetadata:
    """Give a network the weights of a checkpoint's student.

    Args:
        location: A local path or an s3:// URI.
        network: Of the same architecture, on any device.
        weights: The averaged ones, by which runs are evaluated, or those of the last step.

    Raises:
        CheckpointError: It is incomplete, damaged or of another architecture.
        StorageError: The store cannot be asked.
    """
    tensors, metadata = read_student(location, weights=weights)
    source = f"{location}/{EMA if weights == 'ema' else MODEL}"
    _check_same(tensors, network.state_dict(), source=source)
    network.load_state_dict(tensors)
    return metadata


def read_student(
    location: str | Path, *, weights: Literal["ema", "model"] = "ema"
) -> tuple[dict[str, Tensor], CheckpointMetadata]:
    """The weights of a checkpoint's student by name, on the CPU, and what it says about itself.

    Raises:
        CheckpointError: It is incomplete or damaged.
        StorageError: The store cannot be asked.
    """
    name = EMA if weights == "ema" else MODEL
    tensors = tensors_of(read_verified(location, name), f"{location}/{name}")
    metadata = read_metadata(location)
    if weights == "model":
        tensors = {
            key.removeprefix(_STUDENT): value
            for key, value in tensors.items()
            if key.startswith(_STUDENT)
        }
    return tensors, metadata


def read_metadata(location: str | Path) -> CheckpointMetadata:
    """What a checkpoint says about itself; its weights are not read.

    Raises:
        CheckpointError: It is incomplete, or this part of it is damaged.
        StorageError: The store cannot be asked.
    """
    return _parse(read_verified(location, STATE), source=f"{location}/{STATE}")


def verify(location: str | Path) -> None:
    """Compare every file of a checkpoint with its manifest.

    Raises:
        CheckpointError: It is incomplete or damaged.
        StorageError: The store cannot be asked.
    """
    with verified_copy(location):
        pass


Location = TypeVar("Location", str, Path)


def first_whole(locations: Iterable[Location], say: Callable[[str], None]) -> Location | None:
    """The first checkpoint that is whole; each one passed over is said in a line.

    Raises:
        StorageError: The store cannot be asked.
    """
    for location in locations:
        try:
            verify(location)
        except CheckpointError as error:
            say(f"passed over: {error}")
        else:
            return location
    return None


def _check_data(found: Mapping[str, Any], expected: Mapping[str, Any], *, source: str) -> None:
    """The same frames and labels, and the same teacher, wherever they lie by now."""
    for split in sorted(found.keys() & expected.keys()):
        was, now = (data[split]["fingerprint"][:16] for data in (found, expected))
        if was != now:
            raise CheckpointError(
                f"{source}: was trained with other data: {_DATA_NAMES.get(split, split)} had "
                f"fingerprint {was}, now {now}; restore the data or take another run name"
            )


def _check_same(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, source: str
) -> None:
    """Same names, same shapes."""
    for key in expected:
        if key not in found:
            raise CheckpointError(f"{source}: {key} is missing, this model needs it")
    for key, value in found.items():
        if key not in expected:
            raise CheckpointError(f"{source}: {key} is unknown to this model")
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{source}: {key} has shape {list(value.shape)}, "
                f"this model needs {list(expected[key].shape)}"
            )


def _parse(content: bytes, *, source: str) -> CheckpointMetadata:
    try:
        return CheckpointMetadata(**json.loads(content))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: not what this version of mono3d writes") from error


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:  # not every machine that trains has all of them
            continue
    return versions
