"""A synthetic data set as a genuine nuScenes folder, written by several processes."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mono3d.data.synthetic.catalogue import RARE_CLASSES, ClassName
from mono3d.data.synthetic.nuscenes_scene import SceneName, write_scene
from mono3d.data.synthetic.nuscenes_tables import Tables, common_tables
from mono3d.data.synthetic.rig import CAMERA_CHANNELS, LIDAR_CHANNEL
from mono3d.data.synthetic.world import build_world
from mono3d.errors import DataError

TRAIN_SPLIT = "synth_train"
VAL_SPLIT = "synth_val"
RECORD_NAME = "synthetic.json"
"""Says with what settings a folder was made; written last."""
_GENERATOR = 3
"""Raised when the same settings give another data set."""
_PROMISED = 2


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What decides every byte of a synthetic data set.

    Attributes:
        image_size: Width and height of the pictures, pixels.
        train_scenes: Scenes of the split synth_train.
        val_scenes: Scenes of the split synth_val, at least 1.
        samples_per_scene: Keyframes of each scene, half a second apart, at least 1.
        seed: Decides all that is random.
        version: Name of the folder of tables.
    """

    image_size: tuple[int, int]
    train_scenes: int
    val_scenes: int
    samples_per_scene: int
    seed: int
    version: str = "v1.0-synth"


@dataclass(frozen=True, kw_only=True)
class SyntheticSummary:
    """What a data set holds.

    Attributes:
        root: Its folder, `dataroot` for nuscenes-devkit.
        version: Its version, also for nuscenes-devkit.
        num_samples: Samples of each split.
        num_images: Pictures in total.
        num_labels: Labelled boxes of each class, by nuScenes category.
        is_new: Whether it was written just now, rather than found.
    """

    root: Path
    version: str
    num_samples: dict[str, int]
    num_images: int
    num_labels: dict[str, int]
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class _SceneJob:
    """All that a worker needs to write one scene."""

    root: Path
    config: SyntheticConfig
    scene: SceneName
    promised: tuple[ClassName, ...]
    is_training: bool


def write_nuscenes(
    root: Path,
    config: SyntheticConfig,
    *,
    num_processes: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> SyntheticSummary:
    """Write a data set, unless it is there already.

    The folder appears at once when all is written: a run that is killed leaves a hidden sibling,
    and nothing that looks like a data set. The bytes do not depend on the number of processes.

    Args:
        root: Where to; a new folder, or one that this function has made.
        config: What to make.
        num_processes: Workers; 1 works in this process.
        on_progress: Called with pictures done and pictures in total, after each scene.

    Returns:
        What is in the folder.

    Raises:
        DataError: If the folder holds something else, or another synthetic data set.
        ValueError: If the configuration has no scene or no sample.
    """
    if min(config.val_scenes, config.samples_per_scene, num_processes) < 1:
        raise ValueError(f"validation scenes, samples and processes must be positive: {config}")
    if root.exists() and any(root.iterdir()):
        return _found(root, config)
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        _make_folders(partial, config)
        tables = _write_scenes(_jobs(partial, config), num_processes, on_progress)
        summary = _write_tables(partial, config, tables)
        partial.replace(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _summary(root, config, summary, is_new=True)


def _found(root: Path, config: SyntheticConfig) -> SyntheticSummary:
    """The data set that is there, if it is the one that is wanted."""
    path = root / RECORD_NAME
    if not path.is_file():
        raise DataError(
            f"{root}: is not empty and has no {RECORD_NAME}; give a new folder, or remove this one"
        )
    record = json.loads(path.read_text())
    if record["settings"] != _settings(config):
        raise DataError(
            f"{path}: was made with {json.dumps(record['settings'])}, wanted is"
            f" {json.dumps(_settings(config))}; give a new folder, or remove this one"
        )
    return _summary(root, config, record["summary"], is_new=False)


def _settings(config: SyntheticConfig) -> dict[str, Any]:
    return {
        "generator": _GENERATOR, **asdict(config), "image_size": list(config.image_size)
    }  # fmt: skip


def _summary(
    root: Path, config: SyntheticConfig, record: dict[str, Any], *, is_new: bool
) -> SyntheticSummary:
    return SyntheticSummary(root=root, version=config.version, is_new=is_new, **record)


def _make_folders(root: Path, config: SyntheticConfig) -> None:
    for channel in (*CAMERA_CHANNELS, LIDAR_CHANNEL):
        (root / "samples" / channel).mkdir(parents=True)
    (root / "maps").mkdir()
    (root / config.version).mkdir()


def _jobs(root: Path, config: SyntheticConfig) -> list[_SceneJob]:
    """One job a scene; rare classes are promised in turn, each to some scene of each split."""
    jobs: list[_SceneJob] = []
    for split, count in (("train", config.train_scenes), ("val", config.val_scenes)):
        promised = max(_PROMISED, -(-len(RARE_CLASSES) // max(count, 1)))
        for i in range(count):
            turn = [RARE_CLASSES[(promised * i + k) % len(RARE_CLASSES)] for k in range(promised)]
            scene = SceneName(
                name=f"synth-{split}-{i:04d}", index=len(jobs), version=config.version
            )
            jobs.append(
                _SceneJob(
                    root=root,
                    config=config,
                    scene=scene,
                    promised=tuple(turn),
                    is_training=split == "train",
                )
            )
    return jobs


def _write_one(job: _SceneJob) -> tuple[int, Tables]:
    """Build and record one world; returns the scene's index, so that order does not matter."""
    # Training and validation scenes have seeds of their own, whatever the number of the others.
    key = (job.config.seed, int(job.is_training), int(job.scene.name.rsplit("-", 1)[1]))
    world_seed, noise_seed = np.random.SeedSequence(key).spawn(2)
    world = build_world(
        world_seed,
        image_size=job.config.image_size,
        num_keyframes=job.config.samples_per_scene,
        promised=job.promised,
        is_training=job.is_training,
    )
    rng = np.random.default_rng(noise_seed)
    return job.scene.index, write_scene(job.root, job.scene, world, job.config.image_size, rng)


def _write_scenes(
    jobs: list[_SceneJob], num_processes: int, on_progress: Callable[[int, int], None] | None
) -> Tables:
    """All scenes, in any order; their rows in the order of the jobs."""
    per_scene = jobs[0].config.samples_per_scene * len(CAMERA_CHANNELS)
    scenes: dict[int, Tables] = {}
    for index, rows in _results(jobs, num_processes):
        scenes[index] = rows
        if on_progress is not None:
            on_progress(len(scenes) * per_scene, len(jobs) * per_scene)
    tables = common_tables()
    for index in range(len(jobs)):
        for name, rows_of_table in scenes[index].items():
            tables[name] += rows_of_table
    return tables


def _results(jobs: list[_SceneJob], num_processes: int) -> Iterator[tuple[int, Tables]]:
    # The first scene is written here: it compiles the renderer, and the workers find it compiled.
    yield _write_one(jobs[0])
    if num_processes == 1:
        yield from map(_write_one, jobs[1:])
        return
    # A forked copy of a process that has used threads may hang, so workers start afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        for done in as_completed([pool.submit(_write_one, job) for job in jobs[1:]]):
            yield done.result()


def _write_tables(root: Path, config: SyntheticConfig, tables: Tables) -> dict[str, Any]:
    """Write tables, splits and, last, the record; returns what the record says is inside."""
    folder = root / config.version
    for name, rows in tables.items():
        _write_table(folder / f"{name}.json", rows)
    names = [row["name"] for row in tables["scene"]]
    splits = {
        TRAIN_SPLIT: names[: config.train_scenes], VAL_SPLIT: names[config.train_scenes :]
    }  # fmt: skip
    (folder / "splits.json").write_text(json.dumps(splits, indent=0))
    summary = {
        "num_samples": {
            split: len(scenes) * config.samples_per_scene for split, scenes in splits.items()
        },
        "num_images": len(tables["sample"]) * len(CAMERA_CHANNELS),
        "num_labels": _count_labels(tables),
    }
    record = {"settings": _settings(config), "summary": summary}
    (root / RECORD_NAME).write_text(json.dumps(record, indent=0))
    return summary


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
