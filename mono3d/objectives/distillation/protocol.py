"""Distillation: a frozen teacher, adapters that are dropped after training, and their losses."""

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from mono3d.errors import ConfigError
from mono3d.objectives.protocol import StepContext
from mono3d.structures import Batch, Inputs, LossTerms, Predictions


class FrozenTeacher:
    """Answers and never learns. Not an nn.Module: optimiser, DDP and state_dict cannot see it."""

    def __init__(self, network: nn.Module, *, autocast_dtype: torch.dtype | None = None) -> None:
        """Take a network; `autocast_dtype` is what it computes in, None its own precision."""
        self._network = network.eval().requires_grad_(False)
        self._autocast_dtype = autocast_dtype

    def to(self, device: torch.device | str) -> "FrozenTeacher":
        """Move the network; returns itself."""
        self._network.to(device)
        return self

    @torch.no_grad()
    def __call__(self, inputs: Inputs) -> Predictions:
        """The teacher's answer, without gradient."""
        with torch.autocast(
            inputs.images.device.type,
            dtype=self._autocast_dtype,
            enabled=self._autocast_dtype is not None,
        ):
            answer: Predictions = self._network(inputs)
        return answer


def require_features(
    features: Mapping[str, tuple[int, int]], names: Iterable[str], *, whose: str = "the network"
) -> None:
    """Check, while a method is built, that a network emits the feature maps that it will read.

    Args:
        features: What the network declares: name → (channels, stride).
        names: The maps that are wanted.
        whose: Who declares them, for the error.

    Raises:
        ConfigError: One of them is not declared.
    """
    for name in names:
        if name not in features:
            known = ", ".join(features)
            raise ConfigError(f"feature map {name!r}: {whose} has only {known}")


@runtime_checkable
class Distiller(Protocol):
    """A method that lets a student learn from a teacher. What infers is the student alone."""

    adapters: nn.Module
    """Trained with the student, kept in training checkpoints, dropped from the exported model."""

    def to(self, device: torch.device | str) -> "Distiller":
        """Move what is not among the adapters, such as a teacher; returns itself."""
        ...

    def losses(self, batch: Batch, student: Predictions, context: StepContext) -> LossTerms:
        """Weighted scalar terms; gradients reach the student and the adapters only.

        Called outside of autocast, as an objective is: the student's maps may be of low precision.

        Args:
            batch: With all that the teacher reads.
            student: What the student says of it.
            context: Counts over all ranks and micro-batches, by which terms are divided.
        """
        ...
