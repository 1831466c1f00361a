"""Depth samples of all ranks, in one collective of fixed size."""

from dataclasses import fields

import torch
import torch.distributed as dist
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import pad

from mono3d.structures import DepthSamples

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
    gathered = packed.new_empty(dist.get_world_size(), *packed.shape)
    dist.all_gather(list(gathered.unbind()), packed)
    start = dist.get_rank() * capacity
    return _unpack(gathered, local), slice(start, start + slots)


def _pack(samples: DepthSamples, capacity: int) -> Tensor:
    """One row a field. Float64 carries float32 and integers below 2^53 without loss."""
    rows = torch.stack([getattr(samples, f.name).double() for f in fields(samples)])
    return pad(rows, (0, capacity - rows.shape[1]))


def _unpack(gathered: Tensor, like: DepthSamples) -> DepthSamples:
    """From [ranks, fields, capacity]."""
    values = {
        f.name: gathered[:, row].flatten().to(getattr(like, f.name).dtype)
        for row, f in enumerate(fields(like))
    }
    ranks = torch.arange(len(gathered), device=gathered.device)
    first_ids = (_IDS_PER_RANK * ranks).repeat_interleave(gathered.shape[-1])
    return DepthSamples(**(values | {"object_ids": values["object_ids"] + first_ids}))
