"""Gradient harmonising: samples whose gradient many others share count less, each bin as a whole.

Source: Li et al., AAAI 2019 (arXiv:1811.05181), GHM-R. With x a regression error, the derivative of
the loss sqrt(x² + mu²) - mu has the size g = |x| / sqrt(x² + mu²) in [0, 1); a sample counts
N / (samples in its bin of g · bins that are not empty), the number in a bin being a running mean.
The paper's are g, mu = 0.02, equal bins and the running mean. Ours: x is ln(predicted / true) of a
depth where the paper has box offsets; the loss itself is not replaced, its gradients are only
counted as if it were that one; and N and the number of bins are left out, since scaling to mean one
takes out what all samples of a step share.

Mu is a relative error here: beyond three times it all samples fall into the last two bins.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mono3d.objectives.mining.depth_error import depth_error
from mono3d.objectives.mining.protocol import MiningState
from mono3d.objectives.mining.scheduled import Factors, ScheduledMining
from mono3d.structures import DepthSamples


@dataclass(frozen=True, kw_only=True)
class GhmMining(ScheduledMining):
    """One over the density of gradients; remembers the running count of each bin."""

    mu: float = 0.02
    """Log depth error at which g is 0.71; > 0, finite."""
    num_bins: int = 10
    """Of g, equally wide; >= 1, and 1 is no mining."""
    momentum: float = 0.75
    """Of the running counts, a step, in [0, 1); 0 counts each step alone."""

    def rules(self) -> dict[str, bool]:
        """See `ScheduledMining`."""
        return {
            **super().rules(),
            "mu": 0 < self.mu < math.inf,
            "num_bins": self.num_bins >= 1,
            "momentum": 0 <= self.momentum < 1,
        }

    def initial_state(self) -> MiningState:
        """Nothing counted."""
        return {"bin_counts": torch.zeros(self.num_bins)}

    def factors(
        self, samples: DepthSamples, usable: Bool[Tensor, " n"], state: MiningState
    ) -> Factors:
        """One over the running count of the sample's bin, which this step is part of."""
        bins = self._bins(torch.where(usable, depth_error(samples, "ratio"), 0.0))
        empty = torch.zeros_like(state["bin_counts"])
        counts = self._observe(empty.scatter_add(0, bins, usable.float()), state["bin_counts"])
        # The bin of a usable sample holds at least (1 - momentum) by now; those of others may not.
        factors = 1.0 / torch.where(usable, counts.gather(0, bins), 1.0)
        return Factors(factors=factors, state={"bin_counts": counts})

    def _bins(self, error: Float[Tensor, " n"]) -> Int64[Tensor, " n"]:
        size = error / (error.square() + self.mu**2).sqrt()
        return (size * self.num_bins).long().clamp(max=self.num_bins - 1)

    def _observe(
        self, found: Float[Tensor, " bins"], running: Float[Tensor, " bins"]
    ) -> Float[Tensor, " bins"]:
        """The running counts start at the first ones, not at zero; an empty step leaves them."""
        moved = torch.lerp(found, running, self.momentum)
        seen = torch.where(running.sum() > 0, moved, found)
        return torch.where(found.sum() > 0, seen, running)
