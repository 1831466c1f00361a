"""Mining: how much each depth sample counts. GMM is *Gradient-aware and Model-perceive Mining*."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from mono3d.structures import DepthSamples

MiningState = Mapping[str, Tensor]
"""What a strategy remembers between steps: name → float32 tensor. The objective keeps each as a
buffer `mining_<name>`, so that checkpoints hold it; it is the same on all ranks."""


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

    @property
    def compares_samples(self) -> bool:
        """Whether a sample's weight depends on others; if not, ranks exchange none to weigh them.

        The same in every step: an exchange is a collective.
        """
        ...

    def initial_state(self) -> MiningState:
        """Nothing seen yet; empty for a strategy that remembers nothing."""
        ...

    def weigh(self, samples: DepthSamples, state: MiningState, progress: float) -> MinedWeights:
        """Weights of the samples and the next state.

        Args:
            samples: Padded to a fixed capacity; of all ranks (the objective gathers them), or of
                this one alone unless the strategy compares samples.
            state: As the last training step left it.
            progress: Epochs done, fractions included; drives warm-up and ramp.
        """
        ...
