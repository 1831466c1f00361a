"""A synthetic data set as a genuine nuScenes folder, written by several processes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mono3d.data.synthetic.catalogue import RARE_CLASSES
from mono3d.data.synthetic.folder import Contents, SyntheticSummary, write_once
from mono3d.data.synthetic.label_faults import MAX_BIASED_SHARE, draw_factors, moved_away
from mono3d.data.synthetic.nuscenes_rig import CAMERA_CHANNELS, LIDAR_CHANNEL, build_rig
from mono3d.data.synthetic.nuscenes_scene import SceneName, write_scene
from mono3d.data.synthetic.nuscenes_tables import Tables, common_tables
from mono3d.data.synthetic.scenes import (
    OnProgress,
    ScenePlan,
    build_planned,
    label_generator,
    plan_scenes,
    work_on_scenes,
)

TRAIN_SPLIT = "synth_train"
VAL_SPLIT = "synth_val"
BIASED_NAME = "biased_labels.json"
"""Beside the tables: the factor of each biased label, by the token of its sample_annotation."""
_GENERATOR = 3
"""Raised when the same settings give another data set."""


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What decides every byte of a synthetic nuScenes folder.

    Attributes:
        image_size: Width and height of the pictures, pixels.
        train_scenes: Scenes of the split synth_train.
        val_scenes: Scenes of the split synth_val, at least 1.
        samples_per_scene: Keyframes of each scene, half a second apart, at least 1.
        seed: Decides all that is random.
        version: Name of the folder of tables.
        biased_labels: Share of the labels of training scenes that overstate the distance, 0 to 0.5;
            see `label_faults`. All else is as it is without them.
    """

    image_size: tuple[int, int]
    train_scenes: int
    val_scenes: int
    samples_per_scene: int
    seed: int
    version: str = "v1.0-synth"
    biased_labels: float = 0.0


def write_nuscenes(
    root: Path,
    config: SyntheticConfig,
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
        ValueError: If the configuration has no scene or no sample, or too many biased labels.
    """
    if min(config.val_scenes, config.samples_per_scene, num_processes) < 1:
        raise ValueError(f"validation scenes, samples and processes must be positive: {config}")
    if not 0 <= config.biased_labels <= MAX_BIASED_SHARE:
        raise ValueError(f"biased labels must be 0 to {MAX_BIASED_SHARE}: {config}")
    settings = {"generator": _GENERATOR, **asdict(config), "image_size": list(config.image_size)}
    if not config.biased_labels:
        # Folders from before there was this option are found again.
        del settings["biased_labels"]
    plans = plan_scenes({"train": config.train_scenes, "val": config.val_scenes}, RARE_CLASSES)

    def write(folder: Path) -> Contents:
        _make_folders(folder, config)
        scenes = work_on_scenes(
            partial(_write_one, folder, config),
            plans,
            num_processes,
            images_per_scene=config.samples_per_scene * len(CAMERA_CHANNELS),
            on_progress=on_progress,
        )
        if not config.biased_labels:
            return _write_tables(folder, config, scenes)
        factors = _draw_factors(config, plans, scenes)
        (folder / config.version / BIASED_NAME).write_text(json.dumps(factors, indent=0))
        contents = _write_tables(folder, config, [moved_away(scene, factors) for scene in scenes])
        contents["num_biased_labels"] = len(factors)
        return contents

    return write_once(root, settings, write)


def _draw_factors(
    config: SyntheticConfig, plans: Sequence[ScenePlan], scenes: Sequence[Tables]
) -> dict[str, float]:
    """Factors of the biased labels; the validation split has none, its labels measure."""
    training = [
        (scene, label_generator(plan, config.seed))
        for plan, scene in zip(plans, scenes, strict=True)
        if plan.split == "train"
    ]
    return draw_factors(
        [scene for scene, _ in training],
        [generator for _, generator in training],
        config.biased_labels,
    )


def _make_folders(root: Path, config: SyntheticConfig) -> None:
    for channel in (*CAMERA_CHANNELS, LIDAR_CHANNEL):
        (root / "samples" / channel).mkdir(parents=True)
    (root / "maps").mkdir()
    (root / config.version).mkdir()


def _write_one(root: Path, config: SyntheticConfig, plan: ScenePlan) -> Tables:
    """Build and record one world."""
    world, rng = build_planned(
        plan,
        config.seed,
        build_rig=build_rig,
        image_size=config.image_size,
        num_keyframes=config.samples_per_scene,
    )
    name = f"synth-{plan.split}-{plan.number:04d}"
    scene = SceneName(name=name, index=plan.index, version=config.version)
    return write_scene(root, scene, world, config.image_size, rng)


def _write_tables(root: Path, config: SyntheticConfig, scenes: Sequence[Tables]) -> Contents:
    """Write tables and splits; returns what is inside."""
    tables = common_tables()
    for scene in scenes:
        for name, rows in scene.items():
            tables[name] += rows
    folder = root / config.version
    for name, rows in tables.items():
        _write_table(folder / f"{name}.json", rows)
    names = [row["name"] for row in tables["scene"]]
    splits = {
        TRAIN_SPLIT: names[: config.train_scenes], VAL_SPLIT: names[config.train_scenes :]
    }  # fmt: skip
    (folder / "splits.json").write_text(json.dumps(splits, indent=0))
    return {
        "num_samples": {
            split: len(members) * config.samples_per_scene for split, members in splits.items()
        },
        "num_images": len(tables["sample"]) * len(CAMERA_CHANNELS),
        "num_labels": _count_labels(tables),
    }


def _count_labels(tables: Tables) -> dict[str, int]:
    categories = {row["token"]: row["name"] for row in tables["category"]}
    counts: dict[str, int] = {}
    for row in tables["instance"]:
        name = categories[row["category_token"]]
        counts[name] = counts.get(name, 0) + row["nbr_annotations"]
    return dict(sorted(counts.items()))


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    # A record a line; with `indent` the encoder would be the slow one, in Python.
    path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
