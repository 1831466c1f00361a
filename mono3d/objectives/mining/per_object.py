"""Selection within each object: a dense head learns one object's depth at several points."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_ROUNDING = 1e-4
"""Keeps ceil(0.6 · 5) at 3, whatever the last bit of the product says."""


def best_of_each_object(
    errors: Float[Tensor, " n"],
    object_ids: Int64[Tensor, " n"],
    valid: Bool[Tensor, " n"],
    share: float,
) -> Bool[Tensor, " n"]:
    """The max(1, ceil(share · n_o)) samples of least error of each object o of n_o samples.

    No object is ever dropped, so the balance of classes and ranges stays. Samples that tie with
    the last one kept are kept too: the answer does not depend on the order of the samples.

    Args:
        errors: Finite where valid.
        object_ids: Equal for the samples of one object.
        valid: Samples to choose from; the others are never kept.
        share: Share of each object's samples to keep, in (0, 1].

    Returns:
        True for the samples kept.
    """
    ids = torch.where(valid, object_ids, torch.iinfo(torch.int64).max)
    order = _argsort_by_object_then_error(ids, torch.where(valid, errors, torch.inf))
    ascending, ids = errors.gather(0, order), ids.gather(0, order)
    group = (ids != ids.roll(1)).long().cumsum(0)  # from 0, or from 1 where there are several
    sizes = group.new_zeros(len(ids) + 1).scatter_add(0, group, torch.ones_like(group))
    first = (sizes.cumsum(0) - sizes).gather(0, group)
    num_kept = (share * sizes.gather(0, group) - _ROUNDING).ceil().clamp(min=1).long()
    kept = ascending <= ascending.gather(0, first + num_kept - 1)
    return torch.zeros_like(valid).scatter(0, order, kept) & valid


def _argsort_by_object_then_error(
    ids: Int64[Tensor, " n"], errors: Float[Tensor, " n"]
) -> Int64[Tensor, " n"]:
    by_error = errors.argsort(stable=True)
    return by_error.gather(0, ids.gather(0, by_error).argsort(stable=True))
