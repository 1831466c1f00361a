"""Training steps of a run, as its loop takes them, on batches that are kept."""

from collections.abc import Sequence

from mono3d.config.schema import RunConfig
from mono3d.structures import Batch
from mono3d.training.loop import train_step
from mono3d.training.parts import Place, build_parts
from mono3d.training.state import TrainState


def begin(config: RunConfig, *, batches: int) -> tuple[TrainState, Sequence[Batch]]:
    """A run before its first step, and the first batches of its first epoch."""
    parts = build_parts(config, Place())
    parts.state.module.train()
    numbered = zip(range(batches), parts.loader.epoch(0), strict=False)
    return parts.state, [batch for _, batch in numbered]


def step(state: TrainState, batch: Batch) -> None:
    """One optimiser step, in the run's fourth epoch: all that warms up is on."""
    train_step(state, [batch], max_grad_norm=35.0, progress=3.0, with_statistics=False)
