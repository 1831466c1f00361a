"""The one mutable object of a run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mono3d.training.schedule import Schedule
from mono3d.training.train_module import TrainModule


class WeightAverage:
    """Exponential moving average of a network's parameters and floating buffers, on its device.

    The decay ramps up as (1 + step) / (10 + step), so that early averages forget the random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start as a copy."""
        self._decay = decay
        self._source = network.state_dict(keep_vars=True)
        self.values: dict[str, Tensor] = {k: v.detach().clone() for k, v in self._source.items()}
        floating = [name for name, value in self.values.items() if value.is_floating_point()]
        self._averaged = [self.values[name] for name in floating]
        self._current = [self._source[name] for name in floating]
        self._counters = [
            (self.values[name], self._source[name]) for name in self.values if name not in floating
        ]

    @torch.no_grad()
    def update(self, step: int, *, is_bad: Float[Tensor, ""]) -> None:
        """Move towards the network after optimiser step `step` (counted from 1).

        Where `is_bad` (0 or 1, on the device) is 1 the average stays as it is.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        distance = torch._foreach_sub(self._current, self._averaged)
        torch._foreach_mul_(distance, (1 - decay) * (1 - is_bad))
        torch._foreach_add_(self._averaged, distance)
        for average, current in self._counters:
            average.copy_(current)

    def load(self, values: dict[str, Tensor]) -> None:
        """Take over saved values in place."""
        for name, value in values.items():
            self.values[name].copy_(value)


@dataclass
class TrainState:
    """Everything that changes while a run goes on; `checkpoint.py` saves it whole."""

    module: TrainModule | DistributedDataParallel
    optimizer: Optimizer
    schedule: Schedule
    peak_lr: float
    ema: WeightAverage
    epoch: int = 0
    """Epochs done."""
    batch: int = 0
    """Micro-batches done in the current epoch."""
    step: int = 0
    """Optimiser steps done, skipped ones included."""
    skipped: Tensor = field(default_factory=lambda: torch.zeros(()))
    """Steps whose gradient was not finite and changed nothing; on the device."""

    @property
    def train_module(self) -> TrainModule:
        """The module without DDP around it."""
        return cast("TrainModule", getattr(self.module, "module", self.module))

    @property
    def device(self) -> torch.device:
        """Where the module lives."""
        return next(self.module.parameters()).device


EvaluateState = Callable[[TrainState], dict[str, float]]
"""Metrics of the averaged weights on the validation split; collective over all ranks."""
