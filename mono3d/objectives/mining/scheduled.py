"""What all strategies but none share: which samples count, how weights are scaled, when they act.

A strategy adds one rule, the factors; see `ScheduledMining.factors`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mono3d.objectives.mining.masked import scaled_to_mean_one
from mono3d.objectives.mining.protocol import MinedWeights, MiningState
from mono3d.objectives.ramp import ramp
from mono3d.structures import DepthSamples


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What a rule says of one step."""

    factors: Float[Tensor, " n"]
    """>= 0, of any scale; what stands at samples that are not usable does not matter."""
    state: MiningState
    statistics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScheduledMining(ABC):
    """A rule's factors, scaled to mean one and blended with equal weights.

    A sample whose prediction, target or gradient is not finite gets no weight from mining (in
    warm-up it has weight one, as without mining). Where a rule gives every usable sample zero, all
    of them count the same: a step is never without a depth loss.

    Raises:
        ValueError: A setting is outside its range.
    """

    compares_samples: ClassVar[bool] = True
    warmup_epochs: float = 1.0
    """Epochs of equal weights: errors of an untrained network say nothing about the samples."""
    ramp_epochs: float = 1.0
    """Epochs over which mining then comes in, linearly."""

    def __post_init__(self) -> None:
        """Every setting is in its range."""
        for name, holds in self.rules().items():
            if not holds:
                kind = type(self).__name__
                raise ValueError(f"{kind}: {name}={getattr(self, name)!r} is out of range")

    def rules(self) -> dict[str, bool]:
        """Setting → whether it is in its range; a strategy adds its own."""
        return {"warmup_epochs": self.warmup_epochs >= 0, "ramp_epochs": self.ramp_epochs >= 0}

    def initial_state(self) -> MiningState:
        """Nothing to remember, unless a strategy says otherwise."""
        return {}

    def blend(self, progress: float) -> float:
        """Share of mining in the weights: 0 in warm-up, 1 after the ramp. `progress` in epochs."""
        return ramp(progress, warmup_epochs=self.warmup_epochs, ramp_epochs=self.ramp_epochs)

    @abstractmethod
    def factors(
        self, samples: DepthSamples, usable: Bool[Tensor, " n"], state: MiningState
    ) -> Factors:
        """How much each sample counts by the strategy's own rule.

        Args:
            samples: Of all ranks.
            usable: Valid and finite: the others must stay out of counts and statistics.
            state: As the last step left it; the next one is part of the answer, and must be the
                same where nothing is usable.
        """

    @torch.no_grad()
    def weigh(self, samples: DepthSamples, state: MiningState, progress: float) -> MinedWeights:
        """See `Mining`. Statistics are those of the rule, `blend` and `non_finite` samples."""
        valid, usable = samples.valid, _usable(samples)
        found = self.factors(samples, usable, state)
        factors = torch.where(usable, found.factors, 0.0)
        mined = scaled_to_mean_one(factors, usable, valid)
        blend = self.blend(progress)
        statistics = {
            **found.statistics,
            "blend": torch.full((), blend, device=valid.device),
            "non_finite": (valid & ~usable).sum().float(),
        }
        weights = torch.where(valid, (1.0 - blend) + blend * mined, 0.0)
        return MinedWeights(weights=weights, state=found.state, statistics=statistics)


def _usable(samples: DepthSamples) -> Bool[Tensor, " n"]:
    numbers = torch.stack([samples.predicted_m, samples.target_m, samples.gradient])
    return samples.valid & numbers.isfinite().all(0)
