"""Small synthetic data sets and worlds, made once for all tests of this folder."""

from pathlib import Path

import numpy as np
import pytest

from mono3d.data.synthetic import kitti_rig, nuscenes_rig
from mono3d.data.synthetic.kitti_folder import SyntheticKittiConfig, write_kitti
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.data.synthetic.world import World, build_world

IMAGE_SIZE = (320, 180)
KITTI_SIZE = (310, 94)


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


@pytest.fixture(scope="session")
def kitti_config() -> SyntheticKittiConfig:
    return SyntheticKittiConfig(
        image_size=KITTI_SIZE,
        train_scenes=2,
        val_scenes=1,
        test_scenes=1,
        samples_per_scene=1,
        seed=7,
    )


@pytest.fixture(scope="session")
def kitti_root(
    tmp_path_factory: pytest.TempPathFactory, kitti_config: SyntheticKittiConfig
) -> Path:
    root = tmp_path_factory.mktemp("synthetic_kitti") / "data"
    write_kitti(root, kitti_config, num_processes=1)
    return root


@pytest.fixture(scope="session")
def kitti_world() -> World:
    return build_world(
        np.random.SeedSequence(5),
        build_rig=kitti_rig.build_rig,
        image_size=KITTI_SIZE,
        num_keyframes=2,
        promised=("bicycle", "motorcycle"),
        is_training=True,
    )
