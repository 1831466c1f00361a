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
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mono3d.objectives.mining.masked import masked_mean, masked_quantile, scaled_to_mean_one
from mono3d.objectives.mining.per_object import best_of_each_object
from mono3d.objectives.mining.protocol import MinedWeights, MiningState
from mono3d.objectives.ramp import ramp
from mono3d.structures import DepthSamples

QualityMetric = Literal["ratio", "exp_rel", "exp_abs", "linear"]

MIN_DEPTH_M = 1.0
"""Depths count as at least this far in relative errors."""

_TINY = 1e-6
"""Keeps a zero error or gradient from dividing by zero."""


def depth_error(samples: DepthSamples, metric: QualityMetric) -> Float[Tensor, " n"]:
    """The error that a quality metric measures, float32; not finite where the prediction is not.

    Returns:
        `ratio`: |ln(predicted / target)|, so that exp(-error) is the 1-D IoU of the two depths.
        `exp_rel`, `linear`: |predicted - target| / target. `exp_abs`: |predicted - target|, metres.
    """
    predicted, target = samples.predicted_m.float(), samples.target_m.float()
    match metric:
        case "ratio":
            log_predicted = predicted.clamp(min=MIN_DEPTH_M).log()
            return (log_predicted - target.clamp(min=MIN_DEPTH_M).log()).abs()
        case "exp_abs":
            return (predicted - target).abs()
        case "exp_rel" | "linear":
            return (predicted - target).abs() / target.clamp(min=MIN_DEPTH_M)


@dataclass(frozen=True, kw_only=True)
class GmmMining:
    """The strategy's settings; what it remembers is the `MiningState` it is given.

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
    warmup_epochs: float = 1.0
    """Epochs of equal weights: errors of an untrained network say nothing about the samples."""
    ramp_epochs: float = 1.0
    """Epochs over which mining then comes in, linearly."""

    def __post_init__(self) -> None:
        """Every setting is in its range."""
        rules = {
            "metric": self.metric in get_args(QualityMetric),
            "sharpness": 0 < self.sharpness < math.inf,
            "typical_error": self.typical_error is None or self.typical_error > 0,
            "floor": 0 <= self.floor <= 1,
            "keep_per_object": 0 < self.keep_per_object <= 1,
            "gradient_exponent": self.gradient_exponent >= 0,
            "gradient_clip": self.gradient_clip >= 1,
            "median_momentum": 0 <= self.median_momentum < 1,
            "warmup_epochs": self.warmup_epochs >= 0,
            "ramp_epochs": self.ramp_epochs >= 0,
        }
        for name, holds in rules.items():
            if not holds:
                raise ValueError(f"GmmMining: {name}={getattr(self, name)!r} is out of range")

    def blend(self, progress: float) -> float:
        """Share of mining in the weights: 0 in warm-up, 1 after the ramp. `progress` in epochs."""
        return ramp(progress, warmup_epochs=self.warmup_epochs, ramp_epochs=self.ramp_epochs)

    @torch.no_grad()
    def weigh(self, samples: DepthSamples, state: MiningState, progress: float) -> MinedWeights:
        """Weights by depth quality and gradient, and the state with this step's median.

        A sample whose prediction, target or gradient is not finite gets no weight from mining
        (in warm-up it has weight one, as without mining) and stays out of every statistic.
        """
        error, gradient = depth_error(samples, self.metric), samples.gradient.float()
        usable = samples.valid & error.isfinite() & gradient.isfinite()
        median = masked_quantile(error, usable, 0.5)
        state = self._observe(median, usable, state)
        factors = self._quality(error, state) * self._gradient_balance(gradient, usable)
        kept = self._kept(samples, error, usable)
        mined = scaled_to_mean_one(torch.where(kept, factors, 0.0), usable, samples.valid)
        blend = self.blend(progress)
        statistics = {
            "median_error": median,
            "running_median_error": state.median_error,
            "blend": torch.full_like(median, blend),
            "non_finite": (samples.valid & ~usable).sum().float(),
        }
        weights = torch.where(samples.valid, (1.0 - blend) + blend * mined, 0.0)
        return MinedWeights(weights=weights, state=state, statistics=statistics)

    def _observe(
        self, median: Float[Tensor, ""], usable: Bool[Tensor, " n"], state: MiningState
    ) -> MiningState:
        """The running median starts at the first median, not at zero: no start-up bias."""
        moved = torch.lerp(median, state.median_error, self.median_momentum)
        seen = torch.where(state.steps > 0, moved, median)
        anything = usable.any()
        return MiningState(
            median_error=torch.where(anything, seen, state.median_error),
            steps=state.steps + anything,
        )

    def _quality(self, error: Float[Tensor, " n"], state: MiningState) -> Float[Tensor, " n"]:
        typical = state.median_error
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
        return best_of_each_object(error, samples.object_ids, usable, self.keep_per_object)
