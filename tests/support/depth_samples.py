"""Depth samples for tests of mining."""

from dataclasses import fields

import torch
from torch import Tensor

from mono3d.structures import DepthSamples


def make_samples(
    predicted_m: list[float],
    target_m: list[float],
    *,
    gradient: list[float] | None = None,
    object_ids: list[int] | None = None,
    labels: list[int] | None = None,
    valid: list[bool] | None = None,
) -> DepthSamples:
    """Samples by hand: by default of equal gradient, one object each, all of class 0, all valid."""
    n = len(target_m)
    return DepthSamples(
        predicted_m=torch.tensor(predicted_m, dtype=torch.float32),
        target_m=torch.tensor(target_m, dtype=torch.float32),
        gradient=torch.tensor([1.0] * n if gradient is None else gradient, dtype=torch.float32),
        object_ids=torch.tensor(
            list(range(n)) if object_ids is None else object_ids, dtype=torch.int64
        ),
        labels=torch.tensor([0] * n if labels is None else labels, dtype=torch.int64),
        valid=torch.tensor([True] * n if valid is None else valid, dtype=torch.bool),
    )


def random_samples(num_valid: int, *, capacity: int = 64, seed: int = 0) -> DepthSamples:
    """Depths from 5 to 60 m predicted to about 15 %, about four samples an object, then padding."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.empty(capacity).uniform_(5.0, 60.0, generator=generator)
    noise = torch.randn(capacity, generator=generator)
    valid = torch.arange(capacity) < num_valid
    return DepthSamples(
        predicted_m=torch.where(valid, target * torch.exp(0.15 * noise), 0.0),
        target_m=torch.where(valid, target, 0.0),
        gradient=torch.where(valid, torch.rand(capacity, generator=generator) + 0.1, 0.0),
        object_ids=torch.where(valid, torch.arange(capacity) // 4, 0),
        labels=torch.where(valid, torch.arange(capacity) % 3, 0),
        valid=valid,
    )


def at(samples: DepthSamples, index: Tensor) -> DepthSamples:
    """The samples in another order, or some of them."""
    return DepthSamples(**{f.name: getattr(samples, f.name)[index] for f in fields(samples)})


def concatenated(*parts: DepthSamples) -> DepthSamples:
    """One list of samples after the other."""
    columns = (f.name for f in fields(DepthSamples))
    return DepthSamples(**{c: torch.cat([getattr(part, c) for part in parts]) for c in columns})
