"""What does the overlap of rotated boxes cost, beside the usual ways to it?

    .venv/bin/python -m benchmarks.iou

With a gradient: against 24 candidate corners sorted by angle, in PyTorch, for the area alone and
for the GCIoU loss, the same but for its overlap. Without one: the compiled overlap of many with
many against shapely and against a NumPy loop that clips polygons. Boxes are cars off by up to half
a length, in any yaw, so that nearly all overlap.

CPU time of one thread, in turns. Memory is that of tensors: what autograd keeps for the backward
pass, and the most that is allocated at once in a forward and a backward pass, by the profiler.
"""

import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from benchmarks.support.measure import compare
from benchmarks.support.overlap_peers import (
    clipped_areas,
    shapely_areas,
    sorted_area,
    sorted_iou_and_union,
)
from benchmarks.support.rows import Row, publish
from mono3d.geometry.box_iou import footprints_cam, overlap_area
from mono3d.geometry.fast_iou import pairwise_overlap_area
from mono3d.objectives.losses.gciou import GciouLoss
from mono3d.objectives.losses.iou import BoxPairs, UprightBoxes

COUNTS = (100, 1_000, 10_000)
TARGETS = {100: 1.0, 10_000: 0.5}
"""Pairs → most time in that of the sorted corners."""
ROUNDS = {100: 60, 1_000: 30, 10_000: 12}
_CALLS = 4
"""In a round."""
_CAR_HWL = (1.5, 1.6, 3.9)
Work = Callable[[Tensor, Tensor], Tensor]
"""Predicted and true boxes [n, 7] → n values."""


def boxes(count: int) -> tuple[Tensor, Tensor]:
    """Predicted and true boxes: x, y, z, height, width, length, yaw in the camera frame."""
    random = np.random.default_rng(0)

    def draw() -> Tensor:
        centers = random.uniform(-1, 1, (count, 3)) * np.array([1.0, 0.3, 1.0])
        dims = np.array(_CAR_HWL) * random.uniform(0.8, 1.25, (count, 3))
        yaw = random.uniform(-np.pi, np.pi, count)
        return torch.from_numpy(np.column_stack([centers, dims, yaw])).float()

    return draw(), draw()


def _shapes(values: Tensor) -> tuple[Tensor, Tensor]:
    return footprints_cam(values[:, :3], values[:, 3:6], values[:, 6])


def our_area(said: Tensor, true: Tensor) -> Tensor:
    return overlap_area(_shapes(said)[0], _shapes(true)[0])


def peer_area(said: Tensor, true: Tensor) -> Tensor:
    return sorted_area(_shapes(said)[0], _shapes(true)[0])


class SortedPairs(BoxPairs):
    """Pairs whose overlap comes from sorted corners."""

    def iou_and_union(self) -> tuple[Tensor, Tensor]:
        """Intersection over union in space, and the union in cubic metres."""
        said, true = (
            footprints_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
            for boxes in (self.said, self.true)
        )
        return sorted_iou_and_union(*said, *true)


def our_loss(said: Tensor, true: Tensor) -> Tensor:
    return GciouLoss()(_pairs(BoxPairs, said, true))


def peer_loss(said: Tensor, true: Tensor) -> Tensor:
    return GciouLoss()(_pairs(SortedPairs, said, true))


def bare_loss(said: Tensor, true: Tensor) -> Tensor:
    """-ln(IoU) exp(d²) + exp(d) - 1 and nothing else: no way back for boxes that miss."""
    iou, _ = sorted_iou_and_union(*_shapes(said), *_shapes(true))
    error = (said[:, 6] - true[:, 6]).sin().abs().asin()
    return -(iou + 1e-6).log() * (error**2).exp() + error.expm1()


def _pairs(kind: type[BoxPairs], said: Tensor, true: Tensor) -> BoxPairs:
    boxes = [UprightBoxes(centers=v[:, :3], dims_hwl=v[:, 3:6], yaw=v[:, 6]) for v in (said, true)]
    volume = true[:, 3] * true[:, 4] * true[:, 5]
    return kind(said=boxes[0], true=boxes[1], typical_volume=volume)


def _forward(work: Work) -> Callable[[tuple[Tensor, Tensor]], object]:
    def run(pair: tuple[Tensor, Tensor]) -> object:
        with torch.no_grad():
            return work(*pair)

    return run


def _both_ways(work: Work) -> Callable[[tuple[Tensor, Tensor]], object]:
    def run(pair: tuple[Tensor, Tensor]) -> object:
        said = pair[0].clone().requires_grad_()
        work(said, pair[1]).sum().backward()
        return said.grad

    return run


def with_gradient(count: int) -> list[Row]:
    """Time against sorted corners; of the loss also against its bare formula, which does less."""
    pair, target = boxes(count), TARGETS.get(count)
    rows = []
    for name, way, ours, peer, most in (
        ("overlap, forward", _forward, our_area, peer_area, target),
        ("overlap, forward and backward", _both_ways, our_area, peer_area, target),
        ("GCIoU, forward", _forward, our_loss, peer_loss, target),
        ("GCIoU, forward and backward", _both_ways, our_loss, peer_loss, target),
        ("GCIoU and its bare formula, forward and backward", _both_ways, our_loss, bare_loss, None),
    ):
        found = compare(way(ours), way(peer), [pair] * _CALLS, rounds=ROUNDS[count])
        work_ms, peer_ms = (1e3 * s / _CALLS for s in (found.work_s, found.peer_s))
        rows.append(
            Row(
                name=f"{name}, {count} pairs, to sorted corners",
                ratio=found.ratio,
                target=most,
                interval=found.interval,
                detail=f"{work_ms:.2f} ms, sorted corners {peer_ms:.2f} ms",
            )
        )
    return rows


def memory(count: int) -> list[Row]:
    """Bytes of tensors against sorted corners."""
    pair = boxes(count)
    rows = []
    for name, ours, peer in (("overlap", our_area, peer_area), ("GCIoU", our_loss, peer_loss)):
        for what, measure in (("kept for the backward pass", kept_bytes), ("at most", peak_bytes)):
            work_mb, peer_mb = (measure(work, pair) / 1e6 for work in (ours, peer))
            rows.append(
                Row(
                    name=f"{name}, {count} pairs, memory {what}, to sorted corners",
                    ratio=work_mb / peer_mb,
                    target=1.0,
                    detail=f"{work_mb:.1f} MB, sorted corners {peer_mb:.1f} MB",
                )
            )
    return rows


def kept_bytes(work: Work, pair: tuple[Tensor, Tensor]) -> int:
    """Size of the storages that autograd keeps of a forward pass."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        result = work(pair[0].clone().requires_grad_(), pair[1])
    del result
    return sum(kept.values())


def peak_bytes(work: Work, pair: tuple[Tensor, Tensor]) -> int:
    """Most bytes of tensors at once, of those made in a forward and a backward pass."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        _both_ways(work)(pair)
    events = profiler.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return int(np.cumsum(changes).max())


def without_gradient(side: int) -> list[Row]:
    """The compiled overlap of many with many against shapely and a loop."""
    footprints = [
        np.ascontiguousarray(_shapes(values)[0].double().numpy()) for values in boxes(side)
    ]
    rows = []
    for name, peer in (("shapely", shapely_areas), ("a NumPy loop", clipped_areas)):
        found = compare(
            lambda pair: pairwise_overlap_area(*pair),
            lambda pair, peer=peer: peer(*pair),  # type: ignore[misc]
            [footprints],
            rounds=6,
        )
        rows.append(
            Row(
                name=f"many with many, {side} x {side}, to {name}",
                ratio=found.ratio,
                target=1.0,
                interval=found.interval,
                detail=f"{1e3 * found.work_s:.3f} ms, {name} {1e3 * found.peer_s:.1f} ms",
            )
        )
    return rows


def measure(counts: Sequence[int] = COUNTS, sides: Sequence[int] = (10, 32, 100)) -> list[Row]:
    """All rows."""
    rows = [row for count in counts for row in with_gradient(count)]
    rows += memory(counts[-1])
    return rows + [row for side in sides for row in without_gradient(side)]


def main() -> int:
    """On one thread."""
    torch.set_num_threads(1)
    return publish("iou", measure())


if __name__ == "__main__":
    sys.exit(main())
