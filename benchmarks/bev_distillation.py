"""What do CMKD and MonoTAKD cost in a training step, in memory, and when the student infers?

    .venv/bin/python -m benchmarks.bev_distillation

The student is that of nuscenes_bev_small: two samples of six cameras a step. Time is CPU time, in
turns with a student that nobody teaches; memory is the growth of a fresh process's largest resident
set over the building of all networks and two steps. What infers is measured on the papers' grid too
(kitti_caddn with a ResNet of its own, one image): with CMKD's self-calibrated blocks, and with
MonoTAKD's second stream (SAM, FFM).
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.support.data import recipe_on, synthetic_folder
from benchmarks.support.measure import compare
from benchmarks.support.memory import in_fresh_process, peak_gib
from benchmarks.support.rows import Row, publish
from benchmarks.support.steps import begin, step
from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.geometry.camera import BEV_FROM_LEVEL_CAM
from mono3d.structures import Inputs
from mono3d.training.allocator import keep_freed_memory
from mono3d.training.checkpoint import save_checkpoint
from mono3d.training.model_assembly import build_model
from mono3d.training.parts import Place, build_parts

SMALL = "nuscenes_bev_small"
ALONE: tuple[str, ...] = ()
BLOCKS = ("model.adaptation_blocks=2",)
STREAM = ("model.residual_stream=true",)
FULL_GRID = ("kitti_caddn", "model.backbone={kind: resnet, depth: 50}")
FOCAL_PX = 720.0


def taught(folder: Path) -> Mapping[str, Sequence[str]]:
    """Changes to the recipe by method; teacher and assistant lie in the folder."""
    soft = "class_threshold: 0.3"
    return {
        "CMKD": (*BLOCKS, f"distillation={{kind: cmkd, teacher: {folder}/teacher, {soft}}}"),
        "MonoTAKD, an assistant of its own": (
            *STREAM,
            f"distillation={{kind: monotakd, teacher: {folder}/teacher, "
            f"assistant: {folder}/assistant, {soft}}}",
        ),
        "MonoTAKD, an assistant of the student's features": (
            *STREAM,
            f"distillation={{kind: monotakd, teacher: {folder}/teacher, {soft}}}",
        ),
    }


def save_teachers(root: Path, folder: Path) -> None:
    """Of a LiDAR detector and an assistant that have learnt nothing."""
    untrained = {
        "teacher": recipe_on(root, "lidar_pillars_nuscenes_small"),
        "assistant": recipe_on(root, SMALL, "model.depth_input=lidar"),
    }
    for name, config in untrained.items():
        parts = build_parts(config, Place())
        save_checkpoint(parts.state, folder / name, facts=parts.facts, metrics={})


def _step_gib(root: Path, changes: Sequence[str]) -> float:
    """Growth over networks and two steps: the second has the optimiser's state too."""
    torch.set_num_threads(1)
    before = peak_gib()
    state, batches = begin(recipe_on(root, SMALL, "train.precision=float32", *changes), batches=2)
    for batch in batches:
        step(state, batch)
    return peak_gib() - before


def step_rows(root: Path, folder: Path, *, rounds: int) -> list[Row]:
    """Time and memory of a step with each method, in units of the step without."""
    precision = "train.precision=float32"
    alone, own_batches = begin(recipe_on(root, SMALL, precision), batches=2)
    alone_gib = in_fresh_process(_step_gib, root, ALONE)
    rows = []
    for name, changes in taught(folder).items():
        state, batches = begin(recipe_on(root, SMALL, precision, *changes), batches=2)
        pairs = list(zip(batches, own_batches, strict=True))
        found = compare(
            lambda pair, state=state: step(state, pair[0]),
            lambda pair: step(alone, pair[1]),
            pairs,
            rounds=rounds,
        )
        gib = in_fresh_process(_step_gib, root, changes)
        rows += [
            Row(
                name=f"a training step with {name}",
                ratio=found.ratio,
                interval=found.interval,
                detail=f"{found.work_s / len(pairs):.2f} s to {found.peer_s / len(pairs):.2f}",
            ),
            Row(
                name=f"memory of a training step with {name}",
                ratio=gib / alone_gib,
                detail=f"{gib:.2f} GiB to {alone_gib:.2f}",
            ),
        ]
    return rows


def inputs_of(config: RunConfig, cameras: int) -> Inputs:
    """A frame of cameras that all look ahead."""
    size = (config.input.image_height_px, config.input.image_width_px)
    projection = torch.tensor([
        [FOCAL_PX, 0, size[1] / 2, 0], [0, FOCAL_PX, size[0] / 2, 0], [0, 0, 1.0, 0]
    ])  # fmt: skip
    return Inputs(
        images=torch.randint(0, 256, (1, cameras, 3, *size), dtype=torch.uint8),
        projection=projection.expand(1, cameras, 3, 4),
        bev_from_cam=torch.tensor(BEV_FROM_LEVEL_CAM).expand(1, cameras, 4, 4),
    )


def inference_rows(recipe: str, *changes: str, cameras: int, rounds: int) -> list[Row]:
    """Time of a frame with what a method adds to the student, in units of the plain student."""
    rows = []
    plain = build_model(load_recipe(recipe, changes)).eval()
    for name, extra in {"CMKD's blocks": BLOCKS, "SAM and FFM": STREAM}.items():
        config = load_recipe(recipe, [*changes, *extra])
        grown = build_model(config).eval()
        with torch.inference_mode():
            found = compare(grown, plain, [inputs_of(config, cameras)], rounds=rounds)
        rows.append(
            Row(
                name=f"a frame of {recipe} with {name}",
                ratio=found.ratio,
                interval=found.interval,
                detail=f"{found.work_s:.2f} s to {found.peer_s:.2f}",
            )
        )
    return rows


def main() -> int:
    """All."""
    torch.set_num_threads(1)
    keep_freed_memory()
    root = synthetic_folder((400, 224), scenes=24)
    with tempfile.TemporaryDirectory() as name:
        save_teachers(root, Path(name))
        rows = step_rows(root, Path(name), rounds=6)
    rows += inference_rows(SMALL, cameras=6, rounds=8)
    rows += inference_rows(*FULL_GRID, cameras=1, rounds=4)
    return publish("bev_distillation", rows)


if __name__ == "__main__":
    sys.exit(main())
