"""Synthetic nuScenes folders to measure on, rendered once and kept in runs/bench."""

import os
import shutil
from pathlib import Path

from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.errors import DataError

CACHE = Path("runs/bench")
VERSION = "v1.0-synth"


def synthetic_folder(
    image_size: tuple[int, int], *, scenes: int, samples: int = 2, cache: Path = CACHE
) -> Path:
    """A folder of training scenes and one scene to validate on, images of width x height."""
    width, height = image_size
    config = SyntheticConfig(
        image_size=image_size,
        train_scenes=scenes,
        val_scenes=1,
        samples_per_scene=samples,
        seed=0,
        version=VERSION,
    )
    root = cache / f"synth-{width}x{height}-{scenes}x{samples}"
    try:
        return write_nuscenes(root, config, num_processes=os.cpu_count() or 1).root
    except DataError:  # made by an older renderer
        shutil.rmtree(root)
        return write_nuscenes(root, config, num_processes=os.cpu_count() or 1).root


def recipe_on(root: Path, recipe: str, *overrides: str) -> RunConfig:
    """A shipped recipe that reads a synthetic folder."""
    data = [
        f"data.root={root}", f"data.version={VERSION}", "data.train_split=synth_train",
        "data.val_split=synth_val",
    ]  # fmt: skip
    return load_recipe(recipe, [*data, *overrides])
