"""A detector small enough to train in a test, with all that makes resuming hard switched on."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from mono3d.config.load import apply_overrides, parse
from mono3d.config.schema import RunConfig
from mono3d.data.loaders import BatchLoader
from mono3d.training.assembly import (
    build_loader,
    build_optimizer,
    build_step_rule,
    build_train_module,
)
from mono3d.training.optimiser_state import optimiser_tensors
from mono3d.training.state import TrainState, WeightAverage
from tests.support.frames import IMAGE_SIZE, FramesInMemory

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
        "backbone": {"kind": "resnet", "depth": 18, "width": 8},
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


def tiny_config(**overrides: object) -> RunConfig:
    """A run with augmentation, GMM mining, averaging and accumulation; `a__b=1` sets a.b."""
    dotted = ((path.replace("__", "."), value) for path, value in overrides.items())
    return parse(apply_overrides(_TREE, dotted), source="test")


def tiny_loader(
    config: RunConfig, *, num_frames: int, rank: int = 0, world_size: int = 1
) -> BatchLoader:
    """Batches of frames in memory."""
    return build_loader(config, FramesInMemory(num_frames), rank=rank, world_size=world_size)


def tiny_state(config: RunConfig, loader: BatchLoader, *, world_size: int = 1) -> TrainState:
    """A fresh state."""
    module = build_train_module(config)
    rule = build_step_rule(
        config, batches_per_epoch=loader.batches_per_epoch, world_size=world_size
    )
    return TrainState(
        module=module,
        optimizer=build_optimizer(config.optim, module),
        schedule=rule.schedule,
        peak_lr=rule.peak_lr,
        ema=WeightAverage(module.student, config.train.ema_decay),
    )


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
