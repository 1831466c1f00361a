"""Data-parallel training whose sums do not depend on whether the run was resumed."""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from mono3d.data.loaders import BatchLoader
from mono3d.structures import Batch, to_device
from mono3d.training.loop import seed_step, step_context
from mono3d.training.state import TrainState

_PASSES = 2


def distribute(state: TrainState, loader: BatchLoader) -> None:
    """Wrap the module of a fresh state, if there are several ranks, and settle its buckets.

    DDP sums gradients in buckets and lays these out anew after the first backward pass. With three
    or more ranks the layout decides in which order numbers are added, so a run resumed at step n
    would differ from one that never stopped. Two passes that leave no trace come first in both.

    Args:
        state: On its device, before its first step; a checkpoint is loaded afterwards.
        loader: Of this rank; its very first batch serves, whenever the run is started.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    # Buffers are statistics of batch norm, which training does not read, and mining state, which
    # is equal on all ranks: broadcasting them in every step would only cost time.
    state.module = DistributedDataParallel(
        state.train_module,
        device_ids=[state.device] if state.device.type == "cuda" else None,
        forward_sync_buffers=False,
    )
    _settle_buckets(state, to_device(next(loader.epoch(0)), state.device))


def _settle_buckets(state: TrainState, batch: Batch) -> None:
    module = state.train_module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state.module.train()
    for _ in range(_PASSES):
        seed_step(0, 0)
        context = step_context(state, [batch], progress=0.0, with_statistics=False)
        output = state.module(batch, context)
        torch.stack(list(output.terms.values())).sum().backward()
    state.optimizer.zero_grad(set_to_none=True)
    module.load_state_dict(before)


@torch.no_grad()
def share_buffers(state: TrainState) -> None:
    """Give all ranks the averaged batch statistics of rank 0, those that checkpoints hold.

    Without it each rank would evaluate its part of a split with statistics of its own.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    names = {name for name, _ in state.train_module.student.named_buffers()}
    for name, value in state.ema.values.items():
        if name in names:
            dist.broadcast(value, src=0)
