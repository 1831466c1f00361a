"""Gradient-aware and Model-perceive Mining of depth samples: easy mining by depth quality.

Inspired by the abstract of arXiv:2306.17450; the method section was not available to us, so the
metric, the mining rule and all constants are our own. We do not reproduce the paper's numbers.

With e the depth error of a sample, m the running median of e over all ranks ("model-perceive"), g
the gradient that its depth loss puts on the network's raw output ("gradient-aware"):

    w = max(floor, exp(-e / (sharpness · m))) · clip((mean(g) / g)^exponent, 1/clip, clip)

scaled to mean one. Each factor can be switched off alone, see the fields.
"""

import math
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mono3d.objectives.mining.depth_error import QualityMetric, depth_error
from mono3d.objectives.mining.masked import masked_mean, masked_quantile
from mono3d.objectives.mining.protocol import MiningState
from mono3d.objectives.mining.ranks import least_of
from mono3d.objectives.mining.scheduled import Factors, ScheduledMining
from mono3d.structures import DepthSamples

_TINY = 1e-6
"""Keeps a zero error or gradient from dividing by zero."""


@dataclass(frozen=True, kw_only=True)
class GmmMining(ScheduledMining):
    """The paper's abstract as a rule; remembers a running median and the steps it was taken over.

    The median is that of the depth error over all ranks, in the metric's unit, 0 before the first
    usable sample; steps without one do not count.

    The defaults are those of a toy, not of real data: they let a linear model learn a clean hard
    minority of 20 % and still halve the harm of biased outliers. Sharper ones starve the minority;
    `tests/objectives/mining/test_gmm_training.py` has the figures, and what does not hold.

    Raises:
        ValueError: A setting is outside its range.
    """

    metric: QualityMetric = "exp_rel"
    """What depth quality is: see `depth_error`; `linear` falls to zero instead of as exp."""
    sharpness: float = 4.0
    """Error, in typical errors, at which quality is 1/e (`linear`: 0). > 0, finite."""
    typical_error: float | None = None
    """Model-perceive, None: the running median of the model's error. Off: this error, in the
    metric's unit, for good."""
    floor: float = 0.2
    """Least quality factor in [0, 1]; 1 switches the weighting between objects off."""
    keep_per_object: float = 1.0
    """Share in (0, 1] of each object's samples that keep their weight, best first; 1 is off."""
    gradient_exponent: float = 0.25
    """Gradient-aware: 0 is off, 1 gives every sample the same pull on the raw output."""
    gradient_clip: float = 4.0
    """The gradient factor stays in [1 / clip, clip]; >= 1."""
    median_momentum: float = 0.99
    """Of the running median, a step; in [0, 1)."""

    def rules(self) -> dict[str, bool]:
        """See `ScheduledMining`."""
        return {
            **super().rules(),
            "metric": self.metric in get_args(QualityMetric),
            "sharpness": 0 < self.sharpness < math.inf,
            "typical_error": self.typical_error is None or self.typical_error > 0,
            "floor": 0 <= self.floor <= 1,
            "keep_per_object": 0 < self.keep_per_object <= 1,
            "gradient_exponent": self.gradient_exponent >= 0,
            "gradient_clip": self.gradient_clip >= 1,
            "median_momentum": 0 <= self.median_momentum < 1,
        }

    def initial_state(self) -> MiningState:
        """No median yet."""
        return {"median_error": torch.zeros(()), "steps": torch.zeros(())}

    def factors(
        self, samples: DepthSamples, usable: Bool[Tensor, " n"], state: MiningState
    ) -> Factors:
        """Depth quality times gradient balance, and the state with this step's median."""
        error, gradient = depth_error(samples, self.metric), samples.gradient.float()
        median = masked_quantile(error, usable, 0.5)
        state = self._observe(median, usable, state)
        factors = self._quality(error, state) * self._gradient_balance(gradient, usable)
        kept = self._kept(samples, error, usable)
        statistics = {"median_error": median, "running_median_error": state["median_error"]}
        return Factors(factors=torch.where(kept, factors, 0.0), state=state, statistics=statistics)

    def _observe(
        self, median: Float[Tensor, ""], usable: Bool[Tensor, " n"], state: MiningState
    ) -> MiningState:
        """The running median starts at the first median, not at zero: no start-up bias."""
        moved = torch.lerp(median, state["median_error"], self.median_momentum)
        seen = torch.where(state["steps"] > 0, moved, median)
        anything = usable.any()
        return {
            "median_error": torch.where(anything, seen, state["median_error"]),
            "steps": state["steps"] + anything,
        }

    def _quality(self, error: Float[Tensor, " n"], state: MiningState) -> Float[Tensor, " n"]:
        typical = state["median_error"]
        if self.typical_error is not None:
            typical = torch.full_like(typical, self.typical_error)
        scaled = error / (self.sharpness * typical).clamp(min=_TINY)
        quality = 1.0 - scaled if self.metric == "linear" else torch.exp(-scaled)
        return quality.clamp(min=self.floor)

    def _gradient_balance(
        self, gradient: Float[Tensor, " n"], usable: Bool[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        ratio = masked_mean(gradient, usable) / gradient.clamp(min=_TINY)
        return ratio.pow(self.gradient_exponent).clamp(1.0 / self.gradient_clip, self.gradient_clip)

    def _kept(
        self, samples: DepthSamples, error: Float[Tensor, " n"], usable: Bool[Tensor, " n"]
    ) -> Bool[Tensor, " n"]:
        if self.keep_per_object == 1.0:
            return usable
        return least_of(samples.object_ids, error, usable, self.keep_per_object)
