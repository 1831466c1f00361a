"""Losses of a distribution over depth bins, and in closed form what each puts on the logits."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def depth_bin_focal(
    logits: Float[Tensor, "n bins cells"], index: Int64[Tensor, "n cells"], *, gamma: float
) -> tuple[Float[Tensor, "n cells"], Float[Tensor, "n cells"]]:
    """Focal loss of the true bin, -(1 - p)^gamma ln p, and the norm of its gradient by the logits.

    Args:
        logits: Of all bins, the one for unknown depth included.
        index: The true bin.
        gamma: How fast cells that know their depth lose weight; 0 is cross entropy.

    Source:
        CaDDN (arXiv:2103.01100), section 3.3, which has gamma 2 and a constant factor of 0.25. The
        gradient is ours: f'(p) p (onehot - softmax), with f the loss and p the true bin's share.
    """
    log_shares = logits.float().log_softmax(1)
    log_p = log_shares.gather(1, index[:, None])[:, 0]
    p = log_p.exp()
    losses = -((1 - p) ** gamma) * log_p
    with torch.no_grad():
        spread = (log_shares.exp().square().sum(1) - 2 * p + 1).clamp(min=0).sqrt()
        slope = (1 - p) ** gamma
        if gamma > 0:
            slope = slope - gamma * p * (1 - p).clamp(min=1e-6) ** (gamma - 1) * log_p
        gradient = slope * spread
    return losses, gradient
