"""Focal loss of independent class probabilities."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def sigmoid_focal(
    logits: Float[Tensor, "*n"], targets: Float[Tensor, "*n"], *, alpha: float, gamma: float
) -> Float[Tensor, "*n"]:
    """Binary cross entropy that easy points leave alone.

    Args:
        logits: Of each class at each point.
        targets: 0 or 1.
        alpha: Weight of the positives; negatives weigh 1 - alpha.
        gamma: How fast well-classified points lose weight; 0 is plain cross entropy.

    Source:
        Lin et al., RetinaNet, ICCV 2017 (arXiv:1708.02002), equation 5.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    miss = targets * (1 - probability) + (1 - targets) * probability
    weight = targets * alpha + (1 - targets) * (1 - alpha)
    return weight * miss**gamma * entropy
