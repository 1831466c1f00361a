"""Where the time of training goes: the first steps of a run under PyTorch's profiler.

A look, not a run: it starts from a fresh state, trains a few steps as any run does, and stops.
No checkpoint is read or written.
"""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from mono3d.config.schema import RunConfig
from mono3d.storage.location import join, upload_directory
from mono3d.training.batch_trial import training_fits
from mono3d.training.local import best_device, local_folder
from mono3d.training.loop import endless_steps
from mono3d.training.parts import BuildParts, Place, RunParts, build_parts, start_process
from mono3d.training.profile_events import STAGE, STEP, operator_costs, stage_costs
from mono3d.training.progress import NoDisplay, ProgressSink
from mono3d.training.state import TrainState
from mono3d.training.step_profile import PROFILE, TRACE, StepProfile, write_profile
from mono3d.training.teachers import with_teacher_found

WARM_UP_STEPS = 4
"""Before time is taken: allocators, kernels and loader processes get going."""


def profile_locally(
    config: RunConfig,
    *,
    name: str,
    steps: int,
    sink: ProgressSink | None = None,
    build: BuildParts = build_parts,
) -> str:
    """Profile the first steps of a run in this process; the run itself is left as it is.

    Args:
        config: The run. `cluster.workers` is not looked at: there is one.
        name: Of the run, in whose folder the profile is written.
        steps: To profile.
        sink: Who watches.
        build: How the parts come about.

    Returns:
        Where the profile is.

    Raises:
        Mono3dError: As `train_locally` does, but for the name of a run with another config.
    """
    config = with_teacher_found(config)
    location = join(local_folder(config, name), PROFILE)
    place = Place(device=best_device())
    with training_fits(config, place, build, (sink or NoDisplay()).say):
        record_profile(start_process(config, place, build), place, steps=steps, location=location)
    return location


def record_profile(parts: RunParts, place: Place, *, steps: int, location: str) -> None:
    """Profile one rank's part of the first steps; the first rank stores what it saw."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) if place.rank == 0 else None
        profile_steps(parts, steps=steps, workers=place.world_size, folder=folder)
        if folder is not None:
            upload_directory(folder, location)


def profile_steps(parts: RunParts, *, steps: int, workers: int, folder: Path | None) -> None:
    """Warm up, time `steps` steps as they are, then profile as many more.

    Args:
        parts: Before their first step.
        steps: At least 1.
        workers: Ranks that train together; each of them calls this.
        folder: Gets the trace, the values and the tables. None on all ranks but the first: they
            take the same steps and look at nothing.
    """
    every = parts.plan.log_every_steps
    with closing(
        endless_steps(parts.state, parts.loader, parts.plan, log_every_steps=every)
    ) as walk:
        _take(walk, WARM_UP_STEPS)
        began = _now(parts.state.device)
        _take(walk, steps)
        step_ms = (_now(parts.state.device) - began) / steps * 1e3
        memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        if folder is None:
            _take(walk, 1 + steps)
            return
        recorded = _profiled(walk, parts.state, steps)
    events = sorted(recorded.events(), key=lambda event: event.time_range.start)
    profiled_ms = sum(e.time_range.elapsed_us() for e in events if e.name.startswith(STEP)) / 1e3
    recorded.export_chrome_trace(str(folder / TRACE))
    device = parts.state.device
    has_gpu = device.type == "cuda"
    write_profile(
        StepProfile(
            device=torch.cuda.get_device_name(device) if has_gpu else "cpu",
            workers=workers,
            frames_per_step=parts.frames_per_step,
            image_size=parts.loader.image_size(parts.state.epoch),
            steps=steps,
            step_ms=step_ms,
            profiled_step_ms=profiled_ms / steps,
            images_per_s=parts.frames_per_step / step_ms * 1e3,
            stages=stage_costs(events, steps, has_gpu=has_gpu),
            operators=operator_costs(recorded.key_averages(), steps, has_gpu=has_gpu),
            peak_memory_gib=memory_gib,
            peak_gpu_memory_gib=torch.cuda.max_memory_reserved(device) / 2**30 if has_gpu else None,
        ),
        folder,
    )


def _take(walk: Iterator[object], steps: int) -> None:
    for _ in islice(walk, steps):
        pass


def _now(device: torch.device) -> float:
    """Seconds, when all that the GPU was given to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _profiled(walk: Iterator[object], state: TrainState, steps: int) -> profile:
    """Take one step for the profiler to warm up, and `steps` steps that it records."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would print when it starts and stops
    activities = [ProfilerActivity.CPU]
    if state.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    plan = schedule(wait=0, warmup=1, active=steps, repeat=1)
    recorded = profile(activities=activities, schedule=plan)
    with _labelled_parts(state.train_module.student), recorded:
        for _ in islice(walk, 1 + steps):
            recorded.step()
    return recorded


@contextmanager
def _labelled_parts(network: nn.Module) -> Iterator[None]:
    """Make stages of what a network consists of, by hooks: labels would be in exported graphs."""
    handles = []
    for name, part in _parts(network):
        label = _Label(f"{STAGE}forward/{name}")
        handles += [
            part.register_forward_pre_hook(label.begin),
            part.register_forward_hook(label.end),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parts(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What a network consists of, and what those parts consist of where it has names."""
    for name, part in network.named_children():
        yield name, part
        inner = [(f"{name}/{own}", p) for own, p in part.named_children() if not own.isdigit()]
        if len(inner) > 1:
            yield from inner


class _Label:
    def __init__(self, name: str) -> None:
        self._label = record_function(name)

    def begin(self, *_: object) -> None:
        self._label.__enter__()

    def end(self, *_: object) -> None:
        self._label.__exit__(None, None, None)
