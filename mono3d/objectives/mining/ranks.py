"""Places of samples among others, independent of the order in which they come."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.nn.functional import pad

_ROUNDING = 1e-4
"""Keeps ceil(0.6 · 5) at 3, whatever the last bit of the product says."""


class Ranks(NamedTuple):
    """What `ranks_within` says of each sample; samples that are not valid hold nonsense."""

    before: Int64[Tensor, " n"]
    """Valid samples of the same group with a smaller key: equal samples share a place."""
    size: Int64[Tensor, " n"]
    """Valid samples of the group."""


def ranks_within(
    groups: Int64[Tensor, " n"],
    keys: Sequence[Shaped[Tensor, " n"]],
    valid: Bool[Tensor, " n"],
    *,
    ascending: Int64[Tensor, " n"] | None = None,
) -> Ranks:
    """Places of the valid samples within their groups.

    Args:
        groups: Equal for samples that are compared; any numbers below 2^63 - 1.
        keys: What they are ordered by, the most important first; finite where valid.
        valid: Samples that have a place.
        ascending: Order of the valid samples by the last key, for who asks about it twice: most of
            the time goes into that sort.
    """
    groups = torch.where(valid, groups, torch.iinfo(torch.int64).max)
    keys = [torch.where(valid, key, 0) for key in keys]
    order = keys[-1].argsort(stable=True) if ascending is None else ascending
    for key in (*reversed(keys[:-1]), groups):  # stable sorts, the least important first
        order = order.gather(0, key.gather(0, order).argsort(stable=True))
    groups, *keys = (values.gather(0, order) for values in (groups, *keys))
    first_of_group = _differs_from_previous(groups)
    first_of_equals = first_of_group
    for key in keys:
        first_of_equals = first_of_equals | _differs_from_previous(key)
    group = first_of_group.long().cumsum(0)
    sizes = group.new_zeros(len(order) + 1).scatter_add(0, group, torch.ones_like(group))
    before = _last_start(first_of_equals) - _last_start(first_of_group)
    return Ranks(
        before=torch.empty_like(order).scatter(0, order, before),
        size=torch.empty_like(order).scatter(0, order, sizes.gather(0, group)),
    )


def least_of(
    groups: Int64[Tensor, " n"],
    key: Shaped[Tensor, " n"],
    valid: Bool[Tensor, " n"],
    share: float,
) -> Bool[Tensor, " n"]:
    """The max(1, ceil(share · size)) valid samples of least key of each group.

    Samples that tie with the last one kept are kept too: the answer does not depend on the order of
    the samples. `share` is in (0, 1].
    """
    ranks = ranks_within(groups, [key], valid)
    return (ranks.before < _num_kept(ranks.size, share)) & valid


def least_of_all(
    key: Float[Tensor, " n"], valid: Bool[Tensor, " n"], share: float
) -> Bool[Tensor, " n"]:
    """`least_of` one group of all samples, for a single sort."""
    # One more slot, so that there is something to gather when the capacity is zero.
    ascending = pad(torch.where(valid, key, torch.inf), (0, 1), value=torch.inf).sort().values
    last_kept = ascending.gather(0, _num_kept(valid.sum(), share)[None] - 1)
    return (key <= last_kept) & valid


def _num_kept(size: Int64[Tensor, "*n"], share: float) -> Int64[Tensor, "*n"]:
    return (share * size - _ROUNDING).ceil().clamp(min=1).long()


def _differs_from_previous(values: Shaped[Tensor, " n"]) -> Bool[Tensor, " n"]:
    differs = torch.ones_like(values, dtype=torch.bool)
    differs[1:] = values[1:] != values[:-1]
    return differs


def _last_start(is_start: Bool[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Position of the last start up to each position; the first position must be one."""
    positions = torch.arange(len(is_start), device=is_start.device)
    return torch.where(is_start, positions, 0).cummax(0).values
