"""Small synthetic data sets and worlds, made once for all tests of this folder."""

from pathlib import Path

import numpy as np
import pytest

from mono3d.data.synthetic import nuscenes_rig
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.data.synthetic.world import World, build_world

IMAGE_SIZE = (320, 180)


@pytest.fixture(scope="session")
def tiny_config() -> SyntheticConfig:
    return SyntheticConfig(
        image_size=(160, 90), train_scenes=1, val_scenes=2, samples_per_scene=2, seed=7
    )


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory, tiny_config: SyntheticConfig) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "data"
    write_nuscenes(root, tiny_config, num_processes=1)
    return root


@pytest.fixture(scope="session")
def world() -> World:
    return build_world(
        np.random.SeedSequence(3),
        build_rig=nuscenes_rig.build_rig,
        image_size=IMAGE_SIZE,
        num_keyframes=3,
        promised=("bus", "bicycle"),
        is_training=True,
    )
