"""Too far to be learnt: samples beyond a true depth count nothing, or less and less.

Source: Ma et al., MonoDLE, CVPR 2021 (arXiv:2103.16237): samples that no detector could localise
hurt the others, so those beyond 60 m are left out (hard) or weighed by a sigmoid around there
(soft); its code also drops objects nearer than 2 m. The paper's are these rules. Ours: only the
depth loss is weighed, where the paper leaves the object out altogether; the near limit holds in the
hard form only; and weights are scaled to mean one, so the samples that stay count more.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from mono3d.objectives.mining.protocol import MiningState
from mono3d.objectives.mining.scheduled import Factors, ScheduledMining
from mono3d.structures import DepthSamples


@dataclass(frozen=True, kw_only=True)
class RangeCut(ScheduledMining):
    """By true depth alone: the only strategy that does not look at the prediction.

    A step that holds nothing but samples outside the range counts all of them alike.
    """

    max_m: float = 60.0
    """True depth beyond which samples count nothing, or at which they count half; > min_m."""
    min_m: float = 2.0
    """True depth below which samples count nothing in the hard form; >= 0."""
    softness_m: float = 0.0
    """Metres over which the far end of the soft form falls; 0 is the hard form. >= 0, finite."""

    def rules(self) -> dict[str, bool]:
        """See `ScheduledMining`."""
        return {
            **super().rules(),
            "max_m": self.min_m < self.max_m < math.inf,
            "min_m": self.min_m >= 0,
            "softness_m": 0 <= self.softness_m < math.inf,
        }

    def factors(
        self, samples: DepthSamples, usable: Bool[Tensor, " n"], state: MiningState
    ) -> Factors:
        """One within the range and zero outside, or a slope at its far end."""
        depth_m = samples.target_m.float()
        if self.softness_m == 0:
            factors = ((depth_m >= self.min_m) & (depth_m <= self.max_m)).float()
        else:
            factors = torch.sigmoid((self.max_m - depth_m) / self.softness_m)
        return Factors(factors=factors, state=state)
