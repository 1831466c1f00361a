"""What does ADD cost in memory of its attention, at full size, and in time of a training step?

    .venv/bin/python -m benchmarks.distillation

Memory is the growth of a fresh process's largest resident set over one step of a map's adapter,
forward and backward, with keys averaged to stride 16 and with a key for every cell. Time is CPU
time of the demo's step with a teacher, in turns with the same step without; at inference there is
none to measure, since the network is the same (`tests/contracts/test_distillation.py`).
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.support.data import recipe_on, synthetic_folder
from benchmarks.support.measure import compare
from benchmarks.support.memory import in_fresh_process, peak_gib
from benchmarks.support.rows import Row, publish
from benchmarks.support.steps import begin, step
from mono3d.codec.map_layout import BOX_NUMBERS, MapLayout
from mono3d.objectives.distillation.attention import CellAttention, ObjectAttention
from mono3d.training.allocator import keep_freed_memory
from mono3d.training.checkpoint import save_checkpoint
from mono3d.training.parts import Place, build_parts

ATTENTION_STRIDE, HEADS, OBJECTS = 16, 8, 64
LIMIT_GIB = 1.0
"""For both attentions on one map."""


@dataclass(frozen=True)
class _Map:
    """A feature map of a recipe's batch."""

    image_size: tuple[int, int]
    stride: int
    channels: int
    images: int


MAPS = (
    _Map((384, 1280), 8, 128, 4),
    _Map((448, 800), 8, 128, 4),
    _Map((384, 1280), 4, 256, 1),
)
"""Of kitti_add_dense, nuscenes_add_dense and kitti_add_center."""


def memory_rows() -> list[Row]:
    """One row a map."""
    rows = []
    for shape in MAPS:
        sparse = in_fresh_process(_attention_gib, shape, ATTENTION_STRIDE // shape.stride)
        height, width = shape.image_size
        detail = f"{sparse:.2f} GiB of {LIMIT_GIB:g}"
        if shape.stride == MAPS[0].stride:  # at stride 4 it would take minutes
            detail += (
                f"; with a key for every cell {in_fresh_process(_attention_gib, shape, 1):.2f}"
            )
        rows.append(
            Row(
                name=f"attention of ADD, {width}x{height}, stride {shape.stride}, "
                f"{shape.channels} channels, images: {shape.images}",
                ratio=sparse / LIMIT_GIB,
                target=1.0,
                detail=detail,
            )
        )
    return rows


def _attention_gib(shape: _Map, averaging: int) -> float:
    """Growth of the largest resident set over one step."""
    torch.manual_seed(0)
    size, images = shape.image_size, shape.images
    cells = (size[0] // shape.stride, size[1] // shape.stride)
    tokens = torch.randn(images, cells[0] * cells[1], shape.channels, requires_grad=True)
    encoding = torch.randn_like(tokens)
    own = CellAttention(shape.channels, HEADS, averaging=averaging)
    others = ObjectAttention(shape.channels, HEADS, num_classes=10, averaging=averaging)
    layout = MapLayout(
        size=cells,
        places=torch.rand(images, cells[0] * cells[1], 1, 3),
        inside=torch.zeros(images, OBJECTS, cells[0] * cells[1], dtype=torch.bool),
        where=torch.rand(images, OBJECTS, 2) * 2 - 1,
        box=torch.rand(images, OBJECTS, BOX_NUMBERS),
        labels=torch.zeros(images, OBJECTS, dtype=torch.int64),
        valid=torch.ones(images, OBJECTS, dtype=torch.bool),
    )
    before = peak_gib()
    seen = own(tokens, encoding, cells)
    (seen.square().mean() + others(seen, encoding, layout).square().mean()).backward()
    return peak_gib() - before


def step_row(root: Path, *, rounds: int) -> Row:
    """A step of the demo's student with its teacher, in units of the step without."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        teacher = build_parts(
            recipe_on(root, "demo", "model.depth_input=objects", "train.precision=float32"), Place()
        )
        save_checkpoint(teacher.state, Path(folder) / "t", facts=teacher.facts, metrics={})
        config = recipe_on(
            root,
            "demo",
            "train.precision=float32",
            f"distillation={{kind: add, teacher: {folder}/t}}",
        )
        taught, batches = begin(config, batches=3)
        alone, _ = begin(recipe_on(root, "demo", "train.precision=float32"), batches=3)
    found = compare(
        lambda batch: step(taught, batch),
        lambda batch: step(alone, batch),
        batches,
        rounds=rounds,
    )
    taught_ms, alone_ms = (1e3 * s / len(batches) for s in (found.work_s, found.peer_s))
    return Row(
        name="a training step of the demo with ADD, in steps without",
        ratio=found.ratio,
        interval=found.interval,
        detail=f"{taught_ms:.0f} ms to {alone_ms:.0f}",
    )


def main() -> int:
    """Both."""
    root = synthetic_folder((400, 224), scenes=24)
    return publish("distillation", [*memory_rows(), step_row(root, rounds=8)])


if __name__ == "__main__":
    sys.exit(main())
