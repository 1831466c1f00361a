"""A detector small enough to train in a test, with all that makes resuming hard switched on."""

import hashlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mono3d.config.load import apply_overrides, parse
from mono3d.config.schema import RunConfig
from mono3d.data.loaders import BatchLoader
from mono3d.structures import Batch
from mono3d.training.assembly import build_loader, build_plan, build_step_rule
from mono3d.training.checkpoint import save_checkpoint
from mono3d.training.optimiser_state import optimiser_tensors
from mono3d.training.parts import Place, RunParts, build_state, run_facts
from mono3d.training.progress import NoDisplay, Progress
from mono3d.training.state import TrainState
from mono3d.training.teachers import teacher_facts
from tests.support.frames import IMAGE_SIZE, FramesInMemory

NUM_FRAMES = 48
"""Of `tiny_parts`."""

_TREE = {
    "data": {"root": "in-memory", "class_names": ["car", "pedestrian"]},
    "input": {
        "image_height_px": IMAGE_SIZE[0],
        "image_width_px": IMAGE_SIZE[1],
        "brightness_jitter": 0.2,
        "contrast_jitter": 0.2,
    },
    "model": {
        "kind": "dense",
        "backbone": {"kind": "resnet", "depth": 18, "width": 16},
        "strides_px": [8, 16, 32],
        "channels": 8,
        "tower_depth": 1,
        "max_positives": 32,
    },
    "mining": {"kind": "gmm", "warmup_epochs": 0.2, "ramp_epochs": 0.2},
    "schedule": {"kind": "cosine", "warmup_steps": 2},
    "train": {
        "epochs": 2,
        "batch_size": 2,
        "accumulate": 2,
        "log_every_steps": 2,
        "threads_per_worker": 1,
    },
}


CENTER = {
    "model": {
        "kind": "center", "backbone": {"kind": "resnet", "depth": 18, "width": 16}, "channels": 8,
        "tower_depth": 1, "has_uncertainty": True, "num_depth_bins": 4, "has_keypoints": True,
    },
    "loss__depth_loss": "laplace",
}  # fmt: skip
"""For `tiny_config`: the other family, with all its options."""


def tiny_config(**overrides: object) -> RunConfig:
    """A run with augmentation, GMM mining, averaging and accumulation; `a__b=1` sets a.b."""
    dotted = ((path.replace("__", "."), value) for path, value in overrides.items())
    return parse(apply_overrides(_TREE, dotted), source="test")


def tiny_parts(config: RunConfig, place: Place) -> RunParts:
    """Parts on frames in memory; evaluation is one number."""
    dataset = FramesInMemory(NUM_FRAMES)
    teacher = teacher_facts(config)
    loader = build_loader(
        config,
        dataset,
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
        evaluate=no_evaluation,
        facts=run_facts(config, {"train": dataset}, teacher),
        frames_per_step=rule.effective_batch,
    )


def save_untrained(
    config: RunConfig,
    folder: Path,
    *,
    is_sure: bool = False,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """A checkpoint of a network that has learnt nothing; a sure one's scores are near a half."""
    state = tiny_parts(config, Place()).state
    if is_sure:
        state.ema.values["class_branches.conv.bias"].zero_()
    save_checkpoint(state, folder, facts=run_facts(config, {}), metrics=metrics or {})
    return folder


def no_evaluation(state: TrainState) -> dict[str, float]:
    """In place of an evaluation: a number that depends on the weights."""
    means = torch.stack([value.float().mean() for value in state.ema.values.values()])
    return {"val/score": float(means.sum())}


def state_digests(state: TrainState) -> dict[str, str]:
    """SHA-256 of weights with mining state, averages and optimiser state, to the last bit."""
    parts = {
        "model": state.train_module.state_dict(),
        "ema": state.ema.values,
        "optimiser": optimiser_tensors(state.train_module, state.optimizer),
    }
    return {name: _digest(tensors) for name, tensors in parts.items()}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Lines(NoDisplay):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[int] = []

    def update(self, progress: Progress) -> None:
        self.steps.append(progress.step)

    def say(self, line: str) -> None:
        self.lines.append(line)


class DyingLoader(BatchLoader):
    """A loader whose process is killed, once, before it hands out a batch."""

    def __init__(self, loader: BatchLoader, *, epoch: int, batch: int, flag: Path) -> None:
        self._loader = loader
        self._epoch = epoch
        self._batch = batch
        self._flag = flag

    @property
    def batches_per_epoch(self) -> int:
        return self._loader.batches_per_epoch

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(self._loader.epoch(epoch, first_batch), first_batch):
            if (epoch, number) == (self._epoch, self._batch) and not self._flag.exists():
                self._flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


@dataclass(frozen=True)
class PartsThatDieOnce:
    """`tiny_parts`, but one rank is killed in the middle of the second epoch."""

    flag: Path
    rank: int = 1

    def __call__(self, config: RunConfig, place: Place) -> RunParts:
        parts = tiny_parts(config, place)
        if place.rank != self.rank:
            return parts
        return replace(parts, loader=DyingLoader(parts.loader, epoch=1, batch=6, flag=self.flag))
