"""Prime samples: the best sample of each object first, then the second best, and so on.

Source: Cao et al., CVPR 2020 (arXiv:1904.04821), ISR-P of PISA. Positive samples of a class are
ranked hierarchically: first within their object, by quality; then all that are best of their
object by quality, after them all second best, ... With r the rank among n samples of the class,
u = 1 - r / n, a sample counts (bias + (1 - bias) · u)^power. The paper's are this rule, power = 2
and bias = 0. Ours: quality is a small relative depth error where the paper has the overlap of 2D
boxes; samples are ranked over all ranks of a step; equal samples share a rank; and ISR-N and the
classification-aware loss are left out.

With bias = 0 the last of n samples counts 1 / n^power as much as the first. An object has at least
one sample in the first tier, so a dense detector keeps every object, if of unequal weight. A center
detector has one sample an object: there the rank is one over all objects of a class, and the worst
object of many all but vanishes. A bias above zero keeps it.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from mono3d.objectives.mining.depth_error import hardness
from mono3d.objectives.mining.protocol import MiningState
from mono3d.objectives.mining.ranks import ranks_within
from mono3d.objectives.mining.scheduled import Factors, ScheduledMining
from mono3d.structures import DepthSamples


@dataclass(frozen=True, kw_only=True)
class PisaMining(ScheduledMining):
    """Importance by hierarchical local rank."""

    power: float = 2.0
    """>= 0, finite; 0 is no mining."""
    bias: float = 0.0
    """What is left of a sample's importance before `power`, however low it ranks; in [0, 1], and 1
    is no mining. 0 lets the lowest of many samples all but vanish."""

    def rules(self) -> dict[str, bool]:
        """See `ScheduledMining`."""
        return {
            **super().rules(),
            "power": 0 <= self.power < math.inf,
            "bias": 0 <= self.bias <= 1,
        }

    def factors(
        self, samples: DepthSamples, usable: Bool[Tensor, " n"], state: MiningState
    ) -> Factors:
        """Importance of the sample's place in its class."""
        error = torch.where(usable, hardness(samples), torch.inf)
        ascending = error.argsort(stable=True)
        tier = ranks_within(samples.object_ids, [error], usable, ascending=ascending).before
        place = ranks_within(samples.labels, [tier, error], usable, ascending=ascending)
        importance = 1.0 - place.before / place.size
        return Factors(
            factors=(self.bias + (1 - self.bias) * importance).pow(self.power), state=state
        )
