"""Every shipped recipe resolves, and its run, shrunk, learns for two steps on synthetic data."""

from pathlib import Path

import pytest
import torch

from mono3d.config.load import load_recipe, recipe_names
from mono3d.config.schema import RunConfig
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.training.checkpoint import save_checkpoint
from mono3d.training.loop import train_step
from mono3d.training.parts import Place, build_parts
from tests.support.kitti_folder import write_kitti

SPLITS = {
    "nuscenes": (
        "data.version=v1.0-synth", "data.train_split=synth_train", "data.val_split=synth_val",
    ),
    "kitti": ("data.train_split=train", "data.val_split=val"),
}  # fmt: skip
SHRUNK = (
    "input.image_height_px=64", "input.image_width_px=128", "input.loader_processes=0",
    "train.batch_size=1", "train.precision=float32",
)  # fmt: skip
ON_IMAGES = (
    "model.backbone.kind=resnet", "model.backbone.width=16", "model.channels=8",
    "model.tower_depth=1",
)  # fmt: skip
"""What shrinks detectors that read images besides."""
ON_GRID = (
    "model.lifted_channels=16", "model.bev_channels=[8, 8]", "model.bev_layers=1",
)  # fmt: skip
"""What shrinks detectors in bird's-eye view besides."""

TEACHER = ("distillation.kind=none", "model.depth_input=lidar")
"""What makes a recipe's teacher, as the recipes say."""


def shrunk(recipe: RunConfig) -> list[str]:
    """Changes that make a recipe small."""
    changes = [*SHRUNK]
    changes += () if recipe.model.kind == "lidar" else ON_IMAGES
    changes += ON_GRID if recipe.model.kind in {"bev", "lidar"} else ()
    return changes


def taught_by(recipe: str, shipped: RunConfig) -> list[tuple[str, str, tuple[str, ...]]]:
    """Key, recipe and changes of those who teach, as the first lines of a recipe say."""
    kind = shipped.distillation.kind
    if kind == "none":
        return []
    if kind == "add":
        return [("teacher", recipe, TEACHER)]
    who = [("teacher", f"lidar_pillars_{recipe.replace(f'_{kind}', '')}", ())]
    if kind == "monotakd":
        plain = recipe.replace("kitti_monotakd", "kitti_caddn").replace("_monotakd", "_bev")
        who.append(("assistant", plain, ("model.depth_input=lidar",)))
    return who


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small folder of each kind of data."""
    folder = tmp_path_factory.mktemp("data")
    config = SyntheticConfig(
        image_size=(128, 72), train_scenes=1, val_scenes=1, samples_per_scene=1, seed=3
    )
    return {
        "nuscenes": write_nuscenes(folder / "nuscenes", config, num_processes=1).root,
        "kitti": write_kitti(folder / "kitti"),
    }


@pytest.mark.parametrize("recipe", recipe_names())
def test_recipe_resolves(recipe: str) -> None:
    assert load_recipe(recipe).data.class_names


@pytest.mark.slow
@pytest.mark.parametrize("recipe", recipe_names())
def test_recipe_trains_two_steps(recipe: str, roots: dict[str, Path], tmp_path: Path) -> None:
    shipped = load_recipe(recipe)
    kind = shipped.data.kind
    overrides = [f"data.root={roots[kind]}", *SPLITS[kind]]
    changes = overrides + shrunk(shipped)
    for role, name, told in taught_by(recipe, shipped):
        config = load_recipe(name, [*overrides, *shrunk(load_recipe(name)), *told])
        own = build_parts(config, Place())
        save_checkpoint(own.state, tmp_path / role, facts=own.facts, metrics={})
        changes.append(f"distillation.{role}={tmp_path / role}")
    config = load_recipe(recipe, changes)
    parts = build_parts(config, Place())
    batches = (batch for epoch in range(2) for batch in parts.loader.epoch(epoch))
    before = [p.clone() for p in parts.state.module.parameters()]
    for _ in range(2):
        output = train_step(
            parts.state, [next(batches)], max_grad_norm=35.0, progress=0.0, with_statistics=True
        )
        assert torch.stack(list(output.terms.values())).isfinite().all()
    moved = [
        bool((p != q).any()) for p, q in zip(parts.state.module.parameters(), before, strict=True)
    ]
    assert any(moved)
    assert parts.state.skipped == 0
