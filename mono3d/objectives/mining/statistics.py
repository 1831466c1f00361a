"""What mining did to a step, for any strategy: computed on the device, judged on the host."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mono3d.objectives.mining.masked import masked_mean, masked_quantile
from mono3d.structures import DepthSamples

RANGE_BANDS = ("0_10", "10_20", "20_30", "30_40", "40_50", "50_plus")
"""Bands of true depth, metres."""

MIN_EFFECTIVE_SHARE = 0.3
"""Below this effective sample share, few samples carry the depth loss."""

MIN_CLASS_RATIO = 0.5
"""A class whose share of weight falls below this part of its share of samples is being lost."""


@torch.no_grad()
def mining_statistics(
    samples: DepthSamples, weights: Float[Tensor, " n"], class_names: Sequence[str]
) -> dict[str, Tensor]:
    """Scalars on the samples' device, without the `mining/` prefix; zeros without samples.

    Returns:
        `weight_mean`, `weight_p05`, `weight_p95`; `effective_share`, (Σw)² / (N Σw²) in (0, 1];
        and `weight_share/…`, `sample_share/…` of each range band (`range_0_10`, …) and class
        (`class_<name>`).
    """
    valid, weights = samples.valid, weights.float()
    groups = _range_bands(samples) | _classes(samples, class_names)
    names = list(groups)
    members = torch.stack([groups[name] for name in names]) & valid
    weight_shares = _shares(weights, members, valid)
    sample_shares = _shares(torch.ones_like(weights), members, valid)
    return {
        "weight_mean": masked_mean(weights, valid),
        "weight_p05": masked_quantile(weights, valid, 0.05),
        "weight_p95": masked_quantile(weights, valid, 0.95),
        "effective_share": _effective_share(weights, valid),
        **{f"weight_share/{name}": weight_shares[i] for i, name in enumerate(names)},
        **{f"sample_share/{name}": sample_shares[i] for i, name in enumerate(names)},
    }


@torch.no_grad()
def rank_correlation(
    a: Float[Tensor, " n"], b: Float[Tensor, " n"], valid: Bool[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Spearman's correlation of two quantities of the valid samples; 0 for fewer than two.

    Equal values rank in the order in which they come.
    """
    ranks = torch.stack([_ranks(values, valid) for values in (a, b)])
    count = valid.sum().clamp(min=1)
    ranks = torch.where(valid, ranks - (count - 1) / 2, 0.0)
    spread = ranks.square().sum(1).prod().sqrt()
    return ranks.prod(0).sum() / spread.clamp(min=_tiny(ranks))


def _ranks(values: Float[Tensor, " n"], valid: Bool[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Places from 0 on; the valid samples come first."""
    order = torch.where(valid, values.float(), torch.inf).argsort(stable=True)
    return (
        torch.empty_like(order)
        .scatter_(0, order, torch.arange(len(order), device=order.device))
        .float()
    )


def mining_warnings(statistics: Mapping[str, float], class_names: Sequence[str]) -> list[str]:
    """One line for each sign that mining leaves the model too little to learn from.

    Args:
        statistics: Of `mining_statistics`, best averaged over several steps: one step's rare
            class has few samples.
        class_names: Classes to judge.

    Returns:
        No line where there were no samples.
    """
    warnings = []
    effective = statistics["effective_share"]
    if 0 < effective < MIN_EFFECTIVE_SHARE:
        warnings.append(
            f"mining: effective sample share {effective:.2f} is below {MIN_EFFECTIVE_SHARE}"
        )
    for name in class_names:
        weight_share = statistics[f"weight_share/class_{name}"]
        sample_share = statistics[f"sample_share/class_{name}"]
        if weight_share < MIN_CLASS_RATIO * sample_share:
            warnings.append(
                f"mining: class {name} has {weight_share:.1%} of the weight "
                f"but {sample_share:.1%} of the samples"
            )
    return warnings


def _range_bands(samples: DepthSamples) -> dict[str, Bool[Tensor, " n"]]:
    band = (samples.target_m / 10.0).floor().clamp(0, len(RANGE_BANDS) - 1)
    return {f"range_{name}": band == i for i, name in enumerate(RANGE_BANDS)}


def _classes(samples: DepthSamples, class_names: Sequence[str]) -> dict[str, Bool[Tensor, " n"]]:
    return {f"class_{name}": samples.labels == i for i, name in enumerate(class_names)}


def _shares(
    values: Float[Tensor, " n"], members: Bool[Tensor, "groups n"], valid: Bool[Tensor, " n"]
) -> Float[Tensor, " groups"]:
    total = torch.where(valid, values, 0.0).sum()
    return torch.where(members, values, 0.0).sum(dim=1) / total.clamp(min=_tiny(values))


def _effective_share(weights: Float[Tensor, " n"], valid: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    weights = torch.where(valid, weights, 0.0)
    spread = valid.sum() * weights.square().sum()
    return weights.sum().square() / spread.clamp(min=_tiny(weights))


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny
