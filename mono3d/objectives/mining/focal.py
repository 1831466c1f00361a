"""Focal weights: what is not yet right counts more, smoothly.

Source: Lin et al., ICCV 2017 (arXiv:1708.02002), where the cross-entropy of a class probability p
is multiplied by (1 - p)^gamma. The paper's are that factor and gamma = 2. Ours: a depth has no
probability, so its quality q takes the place of p: the overlap of predicted and true depth,
q = exp(-|ln(predicted / true)|); and the factor is a weight without gradient of its own.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from mono3d.objectives.mining.depth_error import depth_error
from mono3d.objectives.mining.protocol import MiningState
from mono3d.objectives.mining.scheduled import Factors, ScheduledMining
from mono3d.structures import DepthSamples


@dataclass(frozen=True, kw_only=True)
class FocalMining(ScheduledMining):
    """(1 - q)^gamma: a sample twice as wrong counts about 2^gamma times as much."""

    gamma: float = 2.0
    """>= 0, finite; 0 is no mining."""

    def rules(self) -> dict[str, bool]:
        """See `ScheduledMining`."""
        return {**super().rules(), "gamma": 0 <= self.gamma < math.inf}

    def factors(
        self, samples: DepthSamples, usable: Bool[Tensor, " n"], state: MiningState
    ) -> Factors:
        """What depth quality lacks to one, to the power gamma."""
        lacking = -torch.expm1(-depth_error(samples, "ratio"))
        return Factors(factors=lacking.pow(self.gamma), state=state)
