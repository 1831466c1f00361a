"""Which batch fits, found by trial: each is a process of its own that begins the very run.

A process that ran out of memory is no place to measure in: its memory is in pieces, and libraries
that are refused some may end it. A new one is what the user would start.
"""

import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mono3d.config.load import apply_overrides, parse
from mono3d.config.schema import RunConfig
from mono3d.training.batch_advice import micro_batches, smaller_batch
from mono3d.training.datasets import build_dataset
from mono3d.training.evaluate import answer_frames
from mono3d.training.loop import endless_steps
from mono3d.training.model_assembly import build_model
from mono3d.training.out_of_memory import EvaluationMemoryError, memory_bytes, on_shortage
from mono3d.training.parts import BuildParts, Place, RunParts, start_process

_STEPS = 2
"""The first makes the optimiser's state; the second has all that lasts beside its batch."""
_SPARE = 0.03
"""Of all memory, left free in a trial: memory falls to pieces in the course of a run."""
_RESERVED: list[Tensor] = []
"""What this process, a trial, has taken and keeps to its end."""
_BATCHES = 2
"""Of an evaluation: the first is still there when the second comes."""
_LONGEST_S = 600.0
"""Of one trial."""
Say = Callable[[str], None]


@contextmanager
def training_fits(config: RunConfig, place: Place, build: BuildParts, say: Say) -> Iterator[None]:
    """Around a run: where memory lacks, find the largest batch that fits.

    The run must be a call, so that its memory is free when it has failed.

    Args:
        config: Of the run.
        place: Of this rank; others may wait for it in a collective meanwhile.
        build: How its parts come about.
        say: Tells the user what goes on.

    Raises:
        ConfigError: There is too little memory.
    """
    place = replace(place, figures=None)

    def explain(error: type[Exception], in_use: str) -> str:
        if issubclass(error, EvaluationMemoryError):
            return _evaluation_line(config, in_use, say, _evaluate_in_run, place, build)
        return _line(
            f"train.batch_size={config.train.batch_size}: out of memory ({in_use})",
            config.train.batch_size,
            say,
            lambda size: _succeeds(_train, config, size, place, build),
            lambda size: f"{size} fit on this device: {smaller_batch(config.train, size)}",
        )

    with on_shortage(place.device, explain):
        yield


@contextmanager
def evaluation_fits(config: RunConfig, device: torch.device, say: Say) -> Iterator[None]:
    """Around an evaluation outside of a run: where memory lacks, find the largest batch that fits.

    Args:
        config: Of the evaluation.
        device: Of the network.
        say: Tells the user what goes on.

    Raises:
        ConfigError: There is too little memory.
    """

    def explain(_: type[Exception], in_use: str) -> str:
        return _evaluation_line(config, in_use, say, _evaluate, device)

    with on_shortage(device, explain):
        yield


def _evaluation_line(
    config: RunConfig, in_use: str, say: Say, work: Callable[..., None], *arguments: object
) -> str:
    return _line(
        f"evaluation.batch_size={config.evaluation.batch_size}: out of memory ({in_use})",
        config.evaluation.batch_size,
        say,
        lambda size: _succeeds(work, config, size, *arguments),
        lambda size: f"evaluation.batch_size={size} fits on this device",
    )


def _line(
    shortage: str, size: int, say: Say, fits: Callable[[int], bool], advice: Callable[[int], str]
) -> str:
    say(f"{shortage}; looking for a batch that fits")
    fitting = largest_fitting(fits, size)
    if fitting == 0:
        return f"{shortage}; on this device not even one frame fits: make images or model smaller"
    if fitting == size:
        return f"{shortage}; alone it fits: make room for it, or make it smaller"
    return f"{shortage}; {advice(fitting)}"


def largest_fitting(fits: Callable[[int], bool], at_most: int) -> int:
    """The largest size from 0 to `at_most` that fits, if whatever is smaller fits too."""
    if fits(at_most):
        return at_most
    fitting, failing = 0, at_most
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        if fits(middle):
            fitting = middle
        else:
            failing = middle
    return fitting


def _succeeds(work: Callable[..., None], *arguments: object) -> bool:
    """Whether a call in a process of its own, which inherits limits and devices, comes back."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    trial = context.Process(target=_quietly, args=(Path.cwd(), work, *arguments))
    trial.start()
    try:
        trial.join(_LONGEST_S)
        return trial.exitcode == 0
    finally:
        trial.kill()
        trial.join()


def _quietly(directory: Path, work: Callable[..., None], *arguments: object) -> None:
    os.chdir(directory)
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    try:
        work(*arguments)
    except BaseException:  # libraries have many words for it
        sys.exit(1)


def _train(config: RunConfig, size: int, place: Place, build: BuildParts) -> None:
    num_batches = micro_batches(config.train, size)
    changes = {"train.batch_size": size, "train.accumulate": num_batches}
    _begin(_changed(config, changes), place, build)


def _evaluate_in_run(config: RunConfig, size: int, place: Place, build: BuildParts) -> None:
    changes = {
        "evaluation.batch_size": size,
        "evaluation.max_frames": _BATCHES * size,
        "train.epochs": max(config.train.epochs, 2),
    }
    parts = _begin(_changed(config, changes), place, build)
    parts.state.epoch = 1  # neither the first nor the last: so many frames, not all
    parts.evaluate(parts.state)


def _evaluate(config: RunConfig, size: int, device: torch.device) -> None:
    config = _changed(config, {"evaluation.batch_size": size})
    network, dataset = build_model(config).to(device), build_dataset(config, "val")
    _reserve(device, 0)
    indices = range(min(_BATCHES * size, len(dataset)))
    for _ in answer_frames(config, network, None, dataset, indices):
        pass


def _changed(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    tree = apply_overrides(config.model_dump(mode="json"), changes.items())
    return parse(tree, source="trial")


def _begin(config: RunConfig, place: Place, build: BuildParts) -> RunParts:
    """Take a run's first steps, with its largest images and with all that is ever logged."""
    parts = start_process(config, place, build)
    learnt = [p for p in parts.state.module.parameters() if p.requires_grad]
    gradients = sum(p.numel() * p.element_size() for p in learnt)
    _reserve(place.device, gradients if place.world_size > 1 else 0)
    area_px = [math.prod(parts.loader.image_size(e)) for e in range(parts.plan.epochs)]
    parts.state.epoch = area_px.index(max(area_px))
    steps = endless_steps(parts.state, parts.loader, parts.plan, log_every_steps=1)
    for _ in islice(steps, _STEPS):
        pass
    return parts


def _reserve(device: torch.device, num_bytes: int) -> None:
    """Take memory that the trial must do without: to spare, and what DDP's buckets would take."""
    _, total = memory_bytes(device)
    _RESERVED.append(torch.empty(num_bytes + int(_SPARE * total), dtype=torch.uint8, device=device))
