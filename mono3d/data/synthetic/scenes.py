"""The scenes of a synthetic data set: which there are, their worlds, and work on all of them."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from mono3d.data.synthetic.catalogue import ClassName
from mono3d.data.synthetic.rig import RigBuilder
from mono3d.data.synthetic.world import World, build_world

Split = Literal["train", "val", "test"]
OnProgress = Callable[[int, int], None]
"""Called with pictures done and pictures in total."""
_PROMISED = 2
_SEED_OF_SPLIT: Mapping[Split, int] = {"val": 0, "train": 1, "test": 2}

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """One scene that is to be made.

    Attributes:
        split: Of the data set; training scenes hold more of the rare classes.
        number: Within its split.
        index: Within the data set.
        promised: Classes of which one is put near the ego car, if there is room.
    """

    split: Split
    number: int
    index: int
    promised: tuple[ClassName, ...]


def plan_scenes(counts: Mapping[Split, int], rare: Sequence[ClassName]) -> list[ScenePlan]:
    """All scenes of a data set.

    Args:
        counts: Scenes of each split.
        rare: Classes that are promised in turn, each to some scene of each split.
    """
    plans: list[ScenePlan] = []
    for split, count in counts.items():
        promised = max(_PROMISED, -(-len(rare) // max(count, 1)))
        for number in range(count):
            turn = [rare[(promised * number + k) % len(rare)] for k in range(promised)]
            plans.append(
                ScenePlan(split=split, number=number, index=len(plans), promised=tuple(turn))
            )
    return plans


def build_planned(
    plan: ScenePlan,
    seed: int,
    *,
    build_rig: RigBuilder,
    image_size: tuple[int, int],
    num_keyframes: int,
) -> tuple[World, np.random.Generator]:
    """The world of a planned scene, and what draws the noise of its recording.

    Scenes of different splits have seeds of their own, whatever the number of the others.
    """
    world_seed, noise_seed, _ = _seeds(plan, seed)
    world = build_world(
        world_seed,
        build_rig=build_rig,
        image_size=image_size,
        num_keyframes=num_keyframes,
        promised=plan.promised,
        is_training=plan.split == "train",
    )
    return world, np.random.default_rng(noise_seed)


def label_generator(plan: ScenePlan, seed: int) -> np.random.Generator:
    """What draws the faults of a scene's labels; its world and its recording know nothing of it."""
    return np.random.default_rng(_seeds(plan, seed)[2])


def _seeds(plan: ScenePlan, seed: int) -> list[np.random.SeedSequence]:
    """For a scene's world, the noise of its recording, and the faults of its labels."""
    return np.random.SeedSequence((seed, _SEED_OF_SPLIT[plan.split], plan.number)).spawn(3)


def work_on_scenes(
    work: Callable[[ScenePlan], Result],
    plans: Sequence[ScenePlan],
    num_processes: int,
    *,
    images_per_scene: int,
    on_progress: OnProgress | None,
) -> list[Result]:
    """Do the same for every scene, in any order; the results are in the order of the plans.

    Args:
        work: Can be pickled, unless there is one process.
        plans: At least one.
        num_processes: Workers; 1 works in this process.
        images_per_scene: For the progress.
        on_progress: Called after each scene.
    """
    results: dict[int, Result] = {}
    for index, result in _in_any_order(work, plans, num_processes):
        results[index] = result
        if on_progress is not None:
            on_progress(len(results) * images_per_scene, len(plans) * images_per_scene)
    return [results[index] for index in range(len(plans))]


def _in_any_order(
    work: Callable[[ScenePlan], Result], plans: Sequence[ScenePlan], num_processes: int
) -> Iterator[tuple[int, Result]]:
    # The first scene is done here: it compiles the renderer, and the workers find it compiled.
    yield 0, work(plans[0])
    if num_processes == 1:
        yield from ((index, work(plan)) for index, plan in enumerate(plans[1:], 1))
        return
    # A forked copy of a process that has used threads may hang, so workers start afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        waiting = {pool.submit(work, plan): index for index, plan in enumerate(plans[1:], 1)}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
