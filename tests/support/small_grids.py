"""The small recipes on a grid, smaller still, on a synthetic world of three moments."""

from pathlib import Path

from mono3d.config.schema import RunConfig
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.training.checkpoint import save_checkpoint
from mono3d.training.parts import Place, build_parts

SMALL = (
    "input.image_height_px=64", "input.image_width_px=128", "model.lifted_channels=16",
    "model.bev_channels=[8, 8]", "model.bev_layers=1", "train.batch_size=1",
    "train.precision=float32", "train.log_every_steps=1", "train.epoch_frames=2",
)  # fmt: skip
"""Changes to a recipe on a grid."""
ON_IMAGES = ("model.backbone.width=16", "model.channels=8")
"""Further changes to one that reads images."""


def write_world(folder: Path) -> Path:
    """Root of a nuScenes folder with two moments to learn from and one to measure."""
    config = SyntheticConfig(
        image_size=(128, 72), train_scenes=2, val_scenes=1, samples_per_scene=1, seed=5
    )
    return write_nuscenes(folder, config, num_processes=1).root


def save_fresh(config: RunConfig, folder: Path) -> Path:
    """A checkpoint of a run that has learnt nothing yet."""
    parts = build_parts(config, Place())
    save_checkpoint(parts.state, folder, facts=parts.facts, metrics={})
    return folder
