"""Depth losses and, in closed form, what each puts on the raw output of the network.

Every function works per sample and on any depth coordinate: metres, log depth, or the network's
normalised log depth. `slope` is |∂predicted/∂x|, the codec's derivative at the sample: 1 for the
normalised log depth itself; std for log depth ln d = std·x + mean; std·d for its metres; d for
the inverse sigmoid 1/σ(x) - 1; s for the affine s·x + b.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

SMOOTH_L1_BETA = 1 / 9
"""Of all regressions, in the unit of each; FCOS3D's."""


def smooth_l1(
    predicted: Float[Tensor, "*n"], target: Float[Tensor, "*n"], *, beta: float
) -> Float[Tensor, "*n"]:
    """Quadratic below `beta`, in the coordinate's unit; 0 is plain L1.

    Source: Girshick, Fast R-CNN (arXiv:1504.08083), with the width beta of later detectors.
    """
    return smooth_l1_loss(predicted, target, reduction="none", beta=beta)


def smooth_l1_gradient(
    predicted: Float[Tensor, "*n"],
    target: Float[Tensor, "*n"],
    slope: Float[Tensor, "*#n"],
    *,
    beta: float,
) -> Float[Tensor, "*n"]:
    """|∂ smooth_l1 / ∂x|; plain L1 counts its one-sided value where it has no derivative."""
    error = (predicted - target).detach().abs()
    return torch.where(error < beta, error / max(beta, torch.finfo(error.dtype).tiny), 1.0) * slope


def laplace_nll(
    predicted: Float[Tensor, "*n"], log_sigma: Float[Tensor, "*n"], target: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    """Negative log-likelihood under a Laplace law, constant dropped; may be negative.

    Args:
        predicted: Location.
        log_sigma: Logarithm of the standard deviation, in the coordinate's unit.
        target: True depth.

    Source: Kendall & Gal, NeurIPS 2017 (arXiv:1703.04977), in the form of MonoPair, CVPR 2020.
    """
    return math.sqrt(2.0) * torch.exp(-log_sigma) * (predicted - target).abs() + log_sigma


def laplace_nll_gradient(
    log_sigma: Float[Tensor, "*n"], slope: Float[Tensor, "*#n"]
) -> Float[Tensor, "*n"]:
    """|∂ laplace_nll / ∂x|: the error's size does not matter, the stated uncertainty does."""
    return math.sqrt(2.0) * torch.exp(-log_sigma.detach()) * slope


def mined_laplace_nll(
    predicted: Float[Tensor, "*n"],
    log_sigma: Float[Tensor, "*n"],
    target: Float[Tensor, "*n"],
    weights: Float[Tensor, "*n"],
) -> Float[Tensor, "*n"]:
    """Laplace NLL with mined weights on depth, while uncertainty learns from every sample.

    w·NLL(d, s) + max(0, 1 - w)·NLL(stop_gradient[d], s). With w alone, s would be calibrated on
    easy samples only and hard objects would score too high. Equal to `laplace_nll` where w = 1.
    A gradient on w comes from the first part alone: the second would cancel it.
    """
    mined = weights * laplace_nll(predicted, log_sigma, target)
    rest = (1.0 - weights.detach()).clamp(min=0.0)
    return mined + rest * laplace_nll(predicted.detach(), log_sigma, target)
