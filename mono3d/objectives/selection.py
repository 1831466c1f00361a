"""Learnt selection: the network itself says which samples of an object to learn depth from.

Source: the idea of MonoLSS (arXiv:2312.14474): a branch scores the samples within an object, and a
Gumbel softmax over them, after a warm-up, weighs the losses. Its code has no licence and was not
used; what follows is our reconstruction from the idea. Ours: the samples are the points of a dense
head instead of the cells of a region, only the depth loss is weighed, the branch reads the head's
features without shaping them, all weights stay soft, and the paper's relative-distance divider,
which cuts the scores into chosen and not chosen, is left out.

Unlike mining it has parameters, those of the branch, and learns from the very loss that it weighs:
a sample that the network gets right is worth choosing. A head with one sample an object, such as
the center detector's, leaves it no choice: all weights are one.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mono3d.objectives.ramp import ramp


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Scores of samples → their weights, through which the branch learns.

    Raises:
        ValueError: A setting is outside its range.
    """

    temperature: float = 1.0
    """Of the softmax: lower ones choose more sharply. > 0, finite."""
    warmup_epochs: float = 1.0
    """Epochs of equal weights, in which the branch learns nothing."""
    ramp_epochs: float = 1.0
    """Epochs over which selection then comes in, linearly."""

    def __post_init__(self) -> None:
        """Every setting is in its range."""
        rules = {
            "temperature": 0 < self.temperature < math.inf,
            "warmup_epochs": self.warmup_epochs >= 0,
            "ramp_epochs": self.ramp_epochs >= 0,
        }
        for name, holds in rules.items():
            if not holds:
                raise ValueError(f"Selection: {name}={getattr(self, name)!r} is out of range")

    def blend(self, progress: float) -> float:
        """Share of selection in the weights. `progress` in epochs."""
        return ramp(progress, warmup_epochs=self.warmup_epochs, ramp_epochs=self.ramp_epochs)

    def weigh(
        self,
        logits: Float[Tensor, "n p"],
        object_ids: Int64[Tensor, "n p"],
        valid: Bool[Tensor, "n p"],
        *,
        num_slots: int,
        progress: float,
    ) -> Float[Tensor, "n p"]:
        """Weights of mean one over each object's valid samples, 0 on padding, with a gradient.

        Gumbel noise comes from torch's generator, so that a seeded step can be repeated.

        Args:
            logits: The branch's scores of n images with p samples each.
            object_ids: Slot in its image of the object that a sample learns.
            valid: False on padding.
            num_slots: Of objects in an image.
            progress: Epochs done.
        """
        slots = _Slots(object_ids, valid, num_slots)
        tiny = torch.finfo(logits.dtype).tiny
        gumbel = -torch.empty_like(logits).exponential_().clamp(min=tiny).log()
        scores = (logits + gumbel) / self.temperature
        selected = slots.softmax(scores) * slots.sum(valid.float())
        blend = self.blend(progress)
        return torch.where(valid, (1.0 - blend) + blend * selected, 0.0)


@dataclass(frozen=True)
class _Slots:
    """Sums over the samples of each object, at every one of its samples."""

    ids: Int64[Tensor, "n p"]
    valid: Bool[Tensor, "n p"]
    count: int

    def sum(self, values: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
        sums = values.new_zeros(len(values), self.count).scatter_add(1, self.ids, values)
        return sums.gather(1, self.ids)

    def softmax(self, scores: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
        """Over the valid samples of each object; what stands at others does not matter."""
        best = scores.new_full((len(scores), self.count), -torch.inf)
        known = torch.where(self.valid, scores, -torch.inf).detach()
        best = best.scatter_reduce(1, self.ids, known, "amax").gather(1, self.ids)
        exponentials = torch.where(self.valid, scores - best, -torch.inf).exp()
        return exponentials / self.sum(exponentials).clamp(min=1.0)  # the best one's is 1
