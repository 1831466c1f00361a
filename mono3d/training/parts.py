"""Everything that one process of a run needs, built from its config."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from mono3d.config.load import fingerprint
from mono3d.config.schema import RunConfig
from mono3d.data.loaders import BatchLoader
from mono3d.data.sampling import FrameDataset
from mono3d.training.allocator import keep_freed_memory
from mono3d.training.assembly import (
    StepRule,
    build_loader,
    build_optimizer,
    build_plan,
    build_step_rule,
    build_train_module,
)
from mono3d.training.checkpoint import RunFacts
from mono3d.training.datasets import build_dataset, check_leakage, pseudo_label_teachers
from mono3d.training.distributed import share_buffers
from mono3d.training.evaluate import evaluate_split
from mono3d.training.loop import FitPlan
from mono3d.training.state import EvaluateState, TrainState, WeightAverage
from mono3d.training.teachers import Teaching, teacher_facts


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one process of a run stands."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    figures: Path | None = None
    """Folder for the pictures of the last evaluation, emptied before each; None draws none."""


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """What `fit` takes, and what checkpoints say about the run."""

    state: TrainState
    loader: BatchLoader
    plan: FitPlan
    evaluate: EvaluateState
    facts: RunFacts
    frames_per_step: int
    """Over all ranks and micro-batches: what the learning rate is scaled to."""

    @property
    def headline(self) -> str:
        """How the run learns, in words."""
        return (
            f"{self.total_steps} steps of {self.frames_per_step} frames, "
            f"peak learning rate {self.state.peak_lr:.3g}"
            + (", in bfloat16" if self.state.train_module.autocast_dtype is not None else "")
        )

    @property
    def total_steps(self) -> int:
        """Optimiser steps from the first epoch to the last."""
        return self.loader.batches_per_epoch // self.plan.accumulate * self.plan.epochs


@runtime_checkable
class BuildParts(Protocol):
    """How a process comes to its parts."""

    def __call__(self, config: RunConfig, place: Place) -> RunParts:
        """Parts of one rank; equal weights on all ranks."""
        ...


def start_process(config: RunConfig, place: Place, build: BuildParts) -> RunParts:
    """Settle this process's memory and threads, then build its parts."""
    keep_freed_memory()
    if config.train.threads_per_worker is not None:
        torch.set_num_threads(config.train.threads_per_worker)
    return build(config, place)


def build_parts(config: RunConfig, place: Place) -> RunParts:
    """Data sets, module, optimiser and plan of one rank.

    Raises:
        ConfigError: Settings do not fit the data or each other.
        DataError: The data set cannot be read.
    """
    teacher = teacher_facts(config)
    train, val = open_splits(config, teacher)
    loader = build_loader(
        config,
        train,
        rank=place.rank,
        world_size=place.world_size,
        teacher=teacher,
    )
    rule = build_step_rule(
        config, batches_per_epoch=loader.batches_per_epoch, world_size=place.world_size
    )
    return RunParts(
        state=build_state(config, rule, place),
        loader=loader,
        plan=build_plan(config),
        evaluate=_Validation(config, val, place.figures if place.rank == 0 else None),
        facts=run_facts(config, {"train": train, "val": val}, teacher),
        frames_per_step=rule.effective_batch,
    )


def open_splits(config: RunConfig, teacher: Teaching | None) -> tuple[FrameDataset, FrameDataset]:
    """Frames to learn from, with LiDAR where the network or its teacher reads it, and to measure.

    Raises:
        ConfigError: Classes and label maps do not fit the data.
        DataError: A folder cannot be read.
    """
    needs_points = teacher is not None and teacher.needs_lidar
    train = build_dataset(config, "train", with_points=True if needs_points else None)
    val = build_dataset(config, "val")
    check_leakage(config.data, train, val)
    return train, val


def build_state(config: RunConfig, rule: StepRule, place: Place) -> TrainState:
    """A state before its first step."""
    module = build_train_module(config, place.device)
    return TrainState(
        module=module,
        optimizer=build_optimizer(config.optim, module),
        schedule=rule.schedule,
        peak_lr=rule.peak_lr,
        ema=WeightAverage(module.student, config.train.ema_decay),
        skipped=torch.zeros((), device=place.device),
    )


def run_facts(
    config: RunConfig, splits: Mapping[str, FrameDataset], teacher: Teaching | None = None
) -> RunFacts:
    """What checkpoints say about a run: its teacher is data of it too, as is who labelled."""
    data: dict[str, Any] = {
        name: {"frames": len(dataset), "fingerprint": dataset.fingerprint}
        for name, dataset in splits.items()
    }
    labelled_by = pseudo_label_teachers(splits["train"]) if "train" in splits else {}
    if labelled_by:
        data["train"]["pseudo_labels"] = labelled_by
    if teacher is not None:
        data |= teacher.as_data()
    return RunFacts(
        config=config.model_dump(mode="json"), fingerprint=fingerprint(config), data=data
    )


class _Validation:
    """Metrics of the averaged weights on the validation split: all of it at start and end."""

    def __init__(self, config: RunConfig, dataset: FrameDataset, figures: Path | None) -> None:
        self._config = config
        self._dataset = dataset
        self._figures = figures

    def __call__(self, state: TrainState) -> dict[str, float]:
        share_buffers(state)
        is_whole = state.epoch in (0, self._config.train.epochs)
        evaluation = evaluate_split(
            self._config,
            state.train_module.student,
            state.ema.values,
            self._dataset,
            max_frames=None if is_whole else self._config.evaluation.max_frames,
        )
        if self._figures is not None:
            shutil.rmtree(self._figures, ignore_errors=True)
            if state.step:  # an untrained network's show nothing
                from mono3d.training.report import write_figures  # Matplotlib takes half a second

                write_figures(self._config, self._dataset, evaluation, self._figures)
        return {f"val/{name}": value for name, value in evaluation.metrics.items()}
