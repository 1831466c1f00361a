"""The easiest samples only: OHEM the other way round, easy mining in its hardest form.

Source: ours, as a comparator. It is the trimmed mean of robust statistics, which learns from the
samples of the least error. What is merely hard, and not wrong, it may never learn.
"""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from mono3d.objectives.mining.depth_error import hardness
from mono3d.objectives.mining.protocol import MiningState
from mono3d.objectives.mining.ranks import least_of_all
from mono3d.objectives.mining.scheduled import Factors, ScheduledMining
from mono3d.structures import DepthSamples


@dataclass(frozen=True, kw_only=True)
class EasyTopk(ScheduledMining):
    """The easiest share counts, the rest does not: hard objects may get no depth loss at all."""

    share: float = 0.7
    """Of the usable samples that count, the easiest, in (0, 1]; 1 is no mining."""

    def rules(self) -> dict[str, bool]:
        """See `ScheduledMining`."""
        return {**super().rules(), "share": 0 < self.share <= 1}

    def factors(
        self, samples: DepthSamples, usable: Bool[Tensor, " n"], state: MiningState
    ) -> Factors:
        """One for the easiest, also for all that tie with the last of them; zero for others."""
        kept = least_of_all(hardness(samples), usable, self.share)
        return Factors(factors=kept.float(), state=state)
