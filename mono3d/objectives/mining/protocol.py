"""Mining: how much each depth sample counts. GMM is *Gradient-aware and Model-perceive Mining*."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.structures import DepthSamples


@dataclass(frozen=True, kw_only=True)
class MiningState:
    """What a strategy remembers between steps; float32, kept as buffers of the objective."""

    median_error: Float[Tensor, ""]
    """Running median of the depth error over all ranks, in the unit of the strategy's metric; 0
    before the first sample."""
    steps: Float[Tensor, ""]
    """Training steps that had at least one valid sample."""

    @staticmethod
    def initial() -> "MiningState":
        """Nothing seen yet."""
        return MiningState(median_error=torch.zeros(()), steps=torch.zeros(()))


@dataclass(frozen=True, kw_only=True)
class MinedWeights:
    """A strategy's answer."""

    weights: Float[Tensor, " n"]
    """>= 0, mean one over the valid samples, 0 on padding, detached."""
    state: MiningState
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars worth logging, still on the device, without the `mining/` prefix."""


@runtime_checkable
class Mining(Protocol):
    """A pure function from the depth samples of all ranks to their weights."""

    def weigh(self, samples: DepthSamples, state: MiningState, progress: float) -> MinedWeights:
        """Weights of the samples and the next state.

        Args:
            samples: Of all ranks (the objective gathers them), padded to a fixed capacity.
            state: As the last training step left it.
            progress: Epochs done, fractions included; drives warm-up and ramp.
        """
        ...
