"""No mining: every depth sample counts the same."""

import torch

from mono3d.objectives.mining.protocol import MinedWeights, MiningState
from mono3d.structures import DepthSamples


class Uniform:
    """The baseline of every mining study; a loss times these weights is bit for bit the loss."""

    compares_samples = False

    def initial_state(self) -> MiningState:
        """Nothing to remember."""
        return {}

    @torch.no_grad()
    def weigh(self, samples: DepthSamples, state: MiningState, progress: float) -> MinedWeights:
        """One for every valid sample, also for one that is not finite; remembers nothing."""
        return MinedWeights(weights=samples.valid.float(), state=state)
