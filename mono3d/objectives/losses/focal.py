"""Focal losses of independent class probabilities."""

import torch
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


def heatmap_focal(
    logits: Float[Tensor, "*n"], heat: Float[Tensor, "*n"], *, alpha: float = 2.0, beta: float = 4.0
) -> Float[Tensor, "*n"]:
    """Focal loss of a heat map: cells where it is 1 are positives, those near them punished less.

    Args:
        logits: Of each class at each cell.
        heat: Between 0 and 1.
        alpha: How fast well-classified cells lose weight.
        beta: How much less cells near a positive count as negatives.

    Source:
        CornerNet (arXiv:1808.01244), equation 1, with CenterNet's constants.
    """
    positive = (1 - logits.sigmoid()) ** alpha * F.softplus(-logits)
    negative = (1 - heat) ** beta * logits.sigmoid() ** alpha * F.softplus(logits)
    return torch.where(heat == 1, positive, negative)
