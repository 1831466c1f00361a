"""A synthetic data set as a genuine KITTI object folder, written by several processes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from mono3d.data.synthetic.catalogue import ClassName
from mono3d.data.synthetic.folder import Contents, SyntheticSummary, write_once
from mono3d.data.synthetic.kitti_rig import CAMERA_CHANNEL, LIDAR_CHANNEL, build_rig
from mono3d.data.synthetic.kitti_scene import CALIBRATIONS, LABELS, write_scene
from mono3d.data.synthetic.scenes import (
    OnProgress,
    ScenePlan,
    Split,
    build_planned,
    plan_scenes,
    work_on_scenes,
)

_GENERATOR = 1
"""Raised when the same settings give another data set."""
_RARE: tuple[ClassName, ...] = ("bicycle", "motorcycle")
"""What becomes KITTI's rarest class, Cyclist, where somebody rides it."""
_FOLDERS = {
    "training": (CAMERA_CHANNEL, CALIBRATIONS, LIDAR_CHANNEL, LABELS),
    "testing": (CAMERA_CHANNEL, CALIBRATIONS, LIDAR_CHANNEL),
}


@dataclass(frozen=True, kw_only=True)
class SyntheticKittiConfig:
    """What decides every byte of a synthetic KITTI folder.

    Attributes:
        image_size: Width and height of the pictures, pixels.
        train_scenes: Scenes of the split train.
        val_scenes: Scenes of the split val, at least 1; none of them is in train.
        test_scenes: Scenes of testing/, which have no labels.
        samples_per_scene: Frames of each scene, half a second apart, at least 1.
        seed: Decides all that is random.
    """

    image_size: tuple[int, int]
    train_scenes: int
    val_scenes: int
    test_scenes: int
    samples_per_scene: int
    seed: int

    @property
    def scenes(self) -> dict[Split, int]:
        """Scenes of each split, in the order of their frames."""
        return {"train": self.train_scenes, "val": self.val_scenes, "test": self.test_scenes}


def write_kitti(
    root: Path,
    config: SyntheticKittiConfig,
    *,
    num_processes: int,
    on_progress: OnProgress | None = None,
) -> SyntheticSummary:
    """Write a data set, unless it is there already; see `write_once`.

    The bytes do not depend on the number of processes.

    Args:
        root: Where to; a new folder, or one that this function has made.
        config: What to make.
        num_processes: Workers; 1 works in this process.
        on_progress: Called after each scene.

    Returns:
        What is in the folder.

    Raises:
        DataError: If the folder holds something else, or another synthetic data set.
        ValueError: If the configuration has no scene or no sample.
    """
    if min(config.val_scenes, config.samples_per_scene, num_processes) < 1:
        raise ValueError(f"validation scenes, samples and processes must be positive: {config}")
    settings = {
        "format": "kitti",
        "generator": _GENERATOR,
        **asdict(config),
        "image_size": list(config.image_size),
    }

    def write(folder: Path) -> Contents:
        for part, names in _FOLDERS.items():
            for name in names:
                (folder / part / name).mkdir(parents=True)
        labels = work_on_scenes(
            partial(_write_one, folder, config),
            plan_scenes(config.scenes, _RARE),
            num_processes,
            images_per_scene=config.samples_per_scene,
            on_progress=on_progress,
        )
        return _write_lists(folder, config, labels)

    return write_once(root, settings, write)


def _write_one(root: Path, config: SyntheticKittiConfig, plan: ScenePlan) -> Counter[str]:
    """Build and record one world; returns how many labels of each type it has."""
    world, rng = build_planned(
        plan,
        config.seed,
        build_rig=build_rig,
        image_size=config.image_size,
        num_keyframes=config.samples_per_scene,
    )
    is_test = plan.split == "test"
    return write_scene(
        root / ("testing" if is_test else "training"),
        (plan.number if is_test else plan.index) * config.samples_per_scene,
        world,
        config.image_size,
        rng,
        has_labels=not is_test,
    )


def _write_lists(
    root: Path, config: SyntheticKittiConfig, labels: Sequence[Counter[str]]
) -> Contents:
    """Write ImageSets; returns what is inside."""
    train, val, test = (count * config.samples_per_scene for count in config.scenes.values())
    frames = {
        "train": range(train),
        "val": range(train, train + val),
        "trainval": range(train + val),
        "test": range(test),
    }
    (root / "ImageSets").mkdir()
    for split, numbers in frames.items():
        lines = "".join(f"{number:06d}\n" for number in numbers)
        (root / "ImageSets" / f"{split}.txt").write_text(lines)
    return {
        "num_samples": {"train": train, "val": val, "test": test},
        "num_images": train + val + test,
        "num_labels": dict(sorted(sum(labels, Counter[str]()).items())),
    }
