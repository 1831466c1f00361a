"""What an objective is: predictions and a batch in, named weighted losses out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from mono3d.structures import Batch, LossTerms, Predictions


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What a step knows that a batch does not."""

    num_samples: Float[Tensor, ""]
    """Samples of all ranks and all micro-batches of the step, at least 1."""
    world_size: int
    """DDP averages gradients over ranks; sums over all ranks need this factor."""
    num_images: int
    """Images (frames times cameras) of all ranks and micro-batches of the step."""
    progress: float
    """Epochs done, fractions included."""
    with_statistics: bool
    """Whether mining statistics are wanted: they cost sorts."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveOutput:
    """Weighted terms to add up, and scalars to log; all on the device."""

    terms: LossTerms
    statistics: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """An `nn.Module` that judges one family of detectors; what it remembers are its buffers."""

    def count_samples(self, batch: Batch) -> Float[Tensor, ""]:
        """Samples of one micro-batch that its terms are divided by."""
        ...

    def __call__(
        self, predictions: Predictions, batch: Batch, context: StepContext
    ) -> ObjectiveOutput:
        """Terms of one micro-batch; zeros with a graph where nothing is labelled."""
        ...
