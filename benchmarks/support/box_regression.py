"""The usual simulation of IoU losses: boxes that follow nothing but a loss's gradient to targets.

As in DIoU (arXiv:1911.08287), but of rotated boxes in space. A box is its centre, sizes and yaw, in
metres and radians; an optimiser steps on these seven numbers themselves, with one constant rate.
All rates, optimisers and seeds of a loss are one batch: none sees another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mono3d.objectives.losses.gciou import GciouLoss
from mono3d.objectives.losses.iou import (
    BoxPairs,
    IouLoss,
    UprightBoxes,
    diou_loss,
    giou_loss,
    iou_loss,
    log_iou_loss,
    rdiou_loss,
)

LOSSES: Mapping[str, IouLoss] = {
    "iou": iou_loss,
    "log_iou": log_iou_loss,
    "giou": giou_loss,
    "diou": diou_loss,
    "rdiou": rdiou_loss,
    "gciou": GciouLoss(),
    "gciou, raw": GciouLoss(rescale="raw"),
    "gciou, off": GciouLoss(rescale="off"),
    "gciou, tan": GciouLoss(yaw_penalty="tan"),
}
OPTIMISERS = ("sgd", "momentum", "adam", "adamw")
RATES = tuple(float(f"{10 ** (k / 2):.3g}") for k in range(-7, 2))
"""From 0.0003 to 3, two a decade."""
LEAST_SIZE_M = 0.05
_CAR_HWL = (1.5, 1.6, 3.9)


@dataclass(frozen=True, kw_only=True)
class Regime:
    """How far boxes start from their targets; ranges are drawn from uniformly, signs at random."""

    yaw_deg: tuple[float, float] = (0, 10)
    offset: tuple[float, float] = (0, 0.1)
    """Along each side, in true sizes."""
    scale: float = 1.1
    """Sizes start between the inverse of it and it, times the true ones."""
    away: tuple[float, float] = (0, 0)
    """In any direction on the ground, in diagonals of the true footprint; on top of `offset`."""
    sizes: tuple[float, float] = (0.9, 1.1)
    """True boxes, times a car; each side by itself."""


REGIMES: Mapping[str, Regime] = {
    "small yaw errors": Regime(yaw_deg=(0, 20)),
    "large yaw errors": Regime(yaw_deg=(45, 90)),
    "scales": Regime(scale=2.0, sizes=(0.5, 2.0)),
    "overlapping offsets": Regime(offset=(0.2, 0.5)),
    "all at once": Regime(yaw_deg=(0, 90), offset=(0, 0.3), scale=1.5),
    "beyond overlap": Regime(away=(1.0, 2.0)),
}


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Mean IoU on the way."""

    iou: np.ndarray
    """Of optimisers x rates x seeds x steps."""
    optimisers: tuple[str, ...]
    rates: tuple[float, ...]

    def steps_to(self, threshold: float) -> np.ndarray:
        """First step with such a mean IoU, inf without one: optimisers x rates x seeds."""
        reached = self.iou >= threshold
        return np.where(reached.any(-1), reached.argmax(-1), np.inf)

    def best_rate(self, optimiser: int, threshold: float) -> int:
        """Index of the rate with the fewest steps, by the median seed; else the highest end."""
        steps = np.median(self.steps_to(threshold)[optimiser], axis=-1)
        if np.isfinite(steps).any():
            return int(steps.argmin())
        return int(self.iou[optimiser, :, :, -1].mean(-1).argmax())


def draw(regime: Regime, count: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Boxes (x, y, z, height, width, length, yaw) to start from, and targets: seeds x count x 7."""
    drawn = [_draw(regime, count, np.random.default_rng(seed)) for seed in seeds]
    start, target = (np.stack(values) for values in zip(*drawn, strict=True))
    return torch.from_numpy(start).float(), torch.from_numpy(target).float()


def _draw(regime: Regime, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    def signed(limits: tuple[float, float], *shape: int) -> np.ndarray:
        return random.uniform(*limits, shape) * random.choice([-1, 1], shape)

    log_sizes = np.log(regime.sizes)
    dims = np.array(_CAR_HWL) * np.exp(random.uniform(*log_sizes, (count, 3)))
    center, yaw = random.uniform(-5, 5, (count, 3)), random.uniform(-np.pi, np.pi, count)
    down, side, ahead = (signed(regime.offset, count, 3) * dims).T
    course = random.uniform(-np.pi, np.pi, count)
    distance = random.uniform(*regime.away, count) * np.hypot(dims[:, 1], dims[:, 2])
    x = ahead * np.cos(yaw) + side * np.sin(yaw) + distance * np.cos(course)
    z = side * np.cos(yaw) - ahead * np.sin(yaw) + distance * np.sin(course)
    spread = np.log(regime.scale)
    start = np.column_stack([
        center + np.column_stack([x, down, z]),
        dims * np.exp(random.uniform(-spread, spread, (count, 3))),
        yaw + np.radians(signed(regime.yaw_deg, count)),
    ])  # fmt: skip
    return start, np.column_stack([center, dims, yaw])


def regress(
    loss: IouLoss,
    start: Tensor,
    target: Tensor,
    *,
    steps: int,
    rates: tuple[float, ...] = RATES,
    optimisers: tuple[str, ...] = OPTIMISERS,
) -> Paths:
    """Let every optimiser at every rate follow the loss from the start; both seeds x count x 7."""
    states = [[start.clone().requires_grad_() for _ in rates] for _ in optimisers]
    stepping = [
        _optimiser(name, list(zip(boxes, rates, strict=True)))
        for name, boxes in zip(optimisers, states, strict=True)
    ]
    flat = [boxes for row in states for boxes in row]
    wanted = target.expand(len(flat), *target.shape)
    mean_iou = []
    for _ in range(steps + 1):
        pairs = _pairs(torch.stack(flat), wanted)
        with torch.no_grad():
            mean_iou.append(pairs.iou_and_union()[0].mean(-1))
        for optimiser in stepping:
            optimiser.zero_grad()
        loss(pairs).sum().backward()
        for optimiser in stepping:
            optimiser.step()
        with torch.no_grad():
            for boxes in flat:
                boxes[..., 3:6].clamp_(min=LEAST_SIZE_M)
    iou = torch.stack(mean_iou, dim=-1).numpy().reshape(len(optimisers), len(rates), len(start), -1)
    return Paths(iou=iou, optimisers=optimisers, rates=rates)


def _optimiser(name: str, boxes: Sequence[tuple[Tensor, float]]) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [{"params": [tensor], "lr": rate} for tensor, rate in boxes]
    match name:
        case "sgd":
            return torch.optim.SGD(groups)
        case "momentum":
            return torch.optim.SGD(groups, momentum=0.9)
        case "adam":
            return torch.optim.Adam(groups)
        case "adamw":
            return torch.optim.AdamW(groups)
        case _:
            raise ValueError(f"optimiser {name!r}: must be one of {OPTIMISERS}")


def _pairs(said: Tensor, true: Tensor) -> BoxPairs:
    volume = true[..., 3] * true[..., 4] * true[..., 5]
    return BoxPairs(
        said=_boxes(said), true=_boxes(true), typical_volume=volume.mean().expand_as(volume)
    )


def _boxes(values: Tensor) -> UprightBoxes:
    return UprightBoxes(centers=values[..., :3], dims_hwl=values[..., 3:6], yaw=values[..., 6])
