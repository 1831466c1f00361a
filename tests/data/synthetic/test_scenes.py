import os
from functools import partial

import pytest

from mono3d.data.synthetic.nuscenes_rig import build_rig
from mono3d.data.synthetic.scenes import ScenePlan, build_planned, plan_scenes, work_on_scenes

RARE = ("bus", "bicycle", "trailer")


def test_scenes_are_numbered_and_rare_classes_promised_in_turn() -> None:
    plans = plan_scenes({"train": 3, "val": 1}, RARE)
    assert [(plan.split, plan.number, plan.index) for plan in plans] == [
        ("train", 0, 0), ("train", 1, 1), ("train", 2, 2), ("val", 0, 3),
    ]  # fmt: skip
    assert [plan.promised for plan in plans] == [
        ("bus", "bicycle"), ("trailer", "bus"), ("bicycle", "trailer"), RARE,
    ]  # fmt: skip


def test_scenes_of_different_splits_and_seeds_differ() -> None:
    def centers(seed: int, plan: ScenePlan) -> bytes:
        world, _ = build_planned(
            plan, seed, build_rig=build_rig, image_size=(64, 36), num_keyframes=1
        )
        result: bytes = world.snapshot(0.0).centers.tobytes()
        return result

    plans = plan_scenes({"train": 1, "val": 1, "test": 1}, RARE)
    worlds = {centers(seed, plan) for seed in (0, 1) for plan in plans}
    assert len(worlds) == 6
    # Neither its place in the data set nor the scenes before it change a scene.
    (moved,) = plan_scenes({"val": 1}, RARE)
    assert centers(0, moved) == centers(0, plans[1])


def _square(offset: int, plan: ScenePlan) -> tuple[int, int]:
    return plan.index**2 + offset, os.getpid()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_results_are_in_the_order_of_the_plans(num_processes: int) -> None:
    progress: list[tuple[int, int]] = []
    results = work_on_scenes(
        partial(_square, 1),
        plan_scenes({"val": 5}, RARE),
        num_processes,
        images_per_scene=6,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert [square for square, _ in results] == [1, 2, 5, 10, 17]
    assert progress == [(6 * done, 30) for done in range(1, 6)]
    processes = {process for _, process in results}
    assert (processes == {os.getpid()}) == (num_processes == 1)
