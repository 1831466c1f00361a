"""What objectives share whose depth term is mined: the strategy and its memory."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mono3d.objectives.gather import gather_samples
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.mining.statistics import mining_statistics
from mono3d.objectives.protocol import StepContext
from mono3d.structures import DepthSamples


class MinedObjective(nn.Module):
    """Weighs depth samples; its buffers are the memory of the mining strategy."""

    def __init__(self, mining: Mining, class_names: tuple[str, ...]) -> None:
        """Register a buffer `mining_<name>` for all that the strategy remembers.

        Args:
            mining: Weighs depth samples.
            class_names: Of the run.
        """
        super().__init__()
        self._mining = mining
        self._class_names = class_names
        self._memory = {name: f"mining_{name}" for name in mining.initial_state()}
        for name, value in mining.initial_state().items():
            self.register_buffer(self._memory[name], value)

    @torch.no_grad()
    def mine(
        self, local: DepthSamples, context: StepContext
    ) -> tuple[Float[Tensor, " samples"], dict[str, Tensor]]:
        """Weights of this rank's samples, from those of all ranks where these matter.

        Returns:
            The weights, and statistics by name (`mining/…`). The strategy remembers what it has
            seen in training mode only.
        """
        samples, own = local, slice(None)
        if self._mining.compares_samples or context.with_statistics:
            samples, own = gather_samples(local, capacity=len(local.valid))
        state = {name: self.get_buffer(buffer) for name, buffer in self._memory.items()}
        mined = self._mining.weigh(samples, state, context.progress)
        if self.training:
            for name, buffer in self._memory.items():
                self.get_buffer(buffer).copy_(mined.state[name])
        found = dict(mined.statistics)
        if context.with_statistics:
            found |= mining_statistics(samples, mined.weights, self._class_names)
        return mined.weights[own], {f"mining/{name}": value for name, value in found.items()}
