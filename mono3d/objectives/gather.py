"""Depth samples of all ranks, in one collective of fixed size."""

import torch
import torch.distributed as dist
from jaxtyping import Float64, Int64
from torch import Tensor

from mono3d.structures import DepthSamples

_INTEGERS = ("object_ids", "labels", "valid")
_FIELDS = (*_INTEGERS, "predicted_m", "target_m", "gradient")
"""Of depth samples, in the order in which they are sent."""
_IDS_PER_FRAME = 2**20
_IDS_PER_RANK = 2**40


def number_objects(object_ids: Int64[Tensor, "b *n"]) -> Int64[Tensor, "b *n"]:
    """Object ids unique within the batch, from ids unique within each frame (below 2^20)."""
    frames = torch.arange(len(object_ids), device=object_ids.device)
    return object_ids + _IDS_PER_FRAME * frames.view(-1, *[1] * (object_ids.dim() - 1))


@torch.no_grad()
def gather_samples(local: DepthSamples, *, capacity: int) -> tuple[DepthSamples, slice]:
    """Depth samples of all ranks, rank after rank; without a process group just the given ones.

    A collective: every rank must call it, also one without a valid sample. Its size is fixed, so
    no rank waits to learn another's count.

    Args:
        local: This rank's samples, object ids below 2^40 and unique within the rank
            (`number_objects`).
        capacity: Slots a rank sends, the same on all ranks; at least what the loader pads to.

    Returns:
        The samples of all ranks, each rank's padded to `capacity`, object ids unique over all
        ranks; and where this rank's own samples are in them.

    Raises:
        ValueError: There are more local slots than `capacity`.
    """
    slots = len(local.valid)
    if slots > capacity:
        raise ValueError(f"gather_samples: {slots} slots on this rank exceed capacity={capacity}")
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return local, slice(0, slots)
    packed = _pack(local, capacity)
    gathered = packed.new_empty(dist.get_world_size() * len(packed))
    dist.all_gather_single(gathered, packed)
    start = dist.get_rank() * capacity
    return _unpack(gathered, dist.get_world_size()), slice(start, start + slots)


def _pack(samples: DepthSamples, capacity: int) -> Float64[Tensor, " packed"]:
    """Field after field. Float64 carries float32 and integers below 2^53 without loss."""
    packed = samples.valid.new_zeros(len(_FIELDS), capacity, dtype=torch.float64)
    torch.stack(
        [getattr(samples, name).double() for name in _FIELDS], out=packed[:, : len(samples.valid)]
    )
    return packed.flatten()


def _unpack(gathered: Float64[Tensor, " packed"], ranks: int) -> DepthSamples:
    """Of each rank what `_pack` made."""
    by_field = gathered.view(ranks, len(_FIELDS), -1).transpose(0, 1)
    integers = by_field[: len(_INTEGERS)].long()
    integers[0] += _IDS_PER_RANK * torch.arange(ranks, device=gathered.device)[:, None]
    numbers = by_field[len(_INTEGERS) :].float()
    values = dict(zip(_FIELDS, [*integers.flatten(1), *numbers.flatten(1)], strict=True))
    return DepthSamples(**(values | {"valid": values["valid"].bool()}))
