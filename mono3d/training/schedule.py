"""Optimiser, parameter groups and learning rate. The rate is a pure function of the step."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from mono3d.model.heads import Branches
from mono3d.training.muon import Muon, is_hidden_matrix

Schedule = Callable[[int], float]
"""Optimiser step → share of the peak learning rate."""


def cosine_schedule(*, warmup_steps: int, total_steps: int, final_share: float) -> Schedule:
    """Linear warm-up, then half a cosine to `final_share` at `total_steps`."""

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
        return final_share + (1 - final_share) * (1 + math.cos(math.pi * done)) / 2

    return share


def step_schedule(*, warmup_steps: int, milestones: Iterable[int], factor: float) -> Schedule:
    """Linear warm-up, then `factor` for every milestone (in steps) that has passed."""
    passed_at = tuple(milestones)

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return factor ** sum(step >= milestone for milestone in passed_at)

    return share


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of convolutions and linear maps decay; norms, biases and scales do not."""
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learnt if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in learnt if p.dim() <= 1], "weight_decay": 0.0},
    ]


def build_adamw(
    module: nn.Module, *, lr: float, weight_decay: float, betas: tuple[float, float]
) -> Optimizer:
    """AdamW in its fused form, which skips a step on the device where `found_inf` says so."""
    return AdamW(parameter_groups(module, weight_decay), lr=lr, betas=betas, fused=True)


def build_sgd(module: nn.Module, *, lr: float, weight_decay: float, momentum: float) -> Optimizer:
    """SGD with momentum in its fused form, see `build_adamw`."""
    groups = parameter_groups(module, weight_decay)
    optimizer = SGD(groups, lr=lr, momentum=momentum, fused=True)
    # The fused kernel leaves a buffer that it creates in a skipped step uninitialised.
    for parameter in (p for group in groups for p in group["params"]):
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def build_muon(
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    betas: tuple[float, float],
) -> Optimizer:
    """Muon for the hidden matrices, AdamW for output branches, norms, biases and scales."""
    groups = parameter_groups(module, weight_decay)
    outputs = {id(p) for m in module.modules() if isinstance(m, Branches) for p in m.parameters()}
    hidden = {id(p) for p in module.parameters() if is_hidden_matrix(p) and id(p) not in outputs}
    matrices = [p for group in groups for p in group["params"] if id(p) in hidden]
    others = [
        group | {"params": [p for p in group["params"] if id(p) not in hidden]} for group in groups
    ]
    return Muon(matrices, others, lr=lr, weight_decay=weight_decay, momentum=momentum, betas=betas)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Same rate for all groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr


@torch.no_grad()
def guarded_step(optimizer: Optimizer, is_bad: torch.Tensor) -> None:
    """One optimiser step that changes nothing where `is_bad` (float 0 or 1, on the device) is 1.

    Uses what fused optimisers offer to gradient scalers, so nothing crosses to the host.
    """
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.found_inf = is_bad  # type: ignore[attr-defined]
    optimizer.step()
