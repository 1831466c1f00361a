"""Reductions of a padded list under a mask. Nothing here waits for the device."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad


def masked_mean(values: Float[Tensor, " n"], mask: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean of the masked values; 0 where there are none. What lies outside may be NaN."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def masked_quantile(
    values: Float[Tensor, " n"], mask: Bool[Tensor, " n"], share: float
) -> Float[Tensor, ""]:
    """Exact quantile of the masked values, linear between order statistics as in numpy.

    Args:
        values: Finite where masked.
        mask: The values that count.
        share: Quantile in [0, 1]; 0.5 is the median, of an even count the mean of the middle two.

    Returns:
        The quantile, 0 where nothing is masked.
    """
    # One more slot, so that there is something to gather when the capacity is zero.
    ascending = pad(torch.where(mask, values, torch.inf), (0, 1), value=torch.inf).sort().values
    position = share * (mask.sum() - 1).clamp(min=0).to(values.dtype)
    low, high = (
        ascending.gather(0, index.long()[None])[0] for index in (position.floor(), position.ceil())
    )
    return torch.where(mask.any(), torch.lerp(low, high, position - position.floor()), 0.0)


def scaled_to_mean_one(
    weights: Float[Tensor, " n"], usable: Bool[Tensor, " n"], valid: Bool[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Weights whose sum is the number of valid samples, so that mining keeps the loss's scale.

    Args:
        weights: >= 0; zero where not usable.
        usable: Samples that may get weight, a part of `valid`.
        valid: Samples over which the mean is one.

    Returns:
        The scaled weights. If all are zero, usable samples count the same; without any usable
        sample everything is zero.
    """
    weights = torch.where(weights.sum() > 0, weights, usable.to(weights.dtype))
    return weights * (valid.sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny))
