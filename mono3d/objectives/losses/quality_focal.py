"""Quality focal loss: classes whose targets are how good a box is, or what a teacher says."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def quality_focal(
    logits: Float[Tensor, "*n"], quality: Float[Tensor, "*n"], *, gamma: float = 2.0
) -> Float[Tensor, "*n"]:
    """Cross entropy to a soft target, times how far the probability is from it, to a power.

    Differentiated through that factor too, as the implementations of CMKD and MonoTAKD do.

    Args:
        logits: Of each class at each place.
        quality: Between 0 and 1.
        gamma: The power; 0 is cross entropy.

    Source:
        Li et al., Generalized Focal Loss, NeurIPS 2020 (arXiv:2006.04388), equation 5.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (logits.sigmoid() - quality).abs() ** gamma * entropy
