"""Online hard example mining: only the hardest samples are learnt from.

Source: Shrivastava et al., CVPR 2016 (arXiv:1604.03540), for regions of a 2D detector: of all
regions of an image, those of the greatest loss are learnt from, after suppression of overlapping
ones. The paper's is that rule alone. Ours: samples are positive depth samples of all images and
ranks of a step, hard means a great relative depth error instead of a great loss, a share is kept
instead of a number, and nothing is suppressed.
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
class Ohem(ScheduledMining):
    """The hardest share counts, the rest does not: objects learnt well get no depth loss."""

    share: float = 0.7
    """Of the usable samples that count, the hardest, in (0, 1]; 1 is no mining."""

    def rules(self) -> dict[str, bool]:
        """See `ScheduledMining`."""
        return {**super().rules(), "share": 0 < self.share <= 1}

    def factors(
        self, samples: DepthSamples, usable: Bool[Tensor, " n"], state: MiningState
    ) -> Factors:
        """One for the hardest, also for all that tie with the last of them; zero for others."""
        kept = least_of_all(-hardness(samples), usable, self.share)
        return Factors(factors=kept.float(), state=state)
