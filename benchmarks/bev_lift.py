"""Does the lean lift take less memory and time than the outer product over the frustum?

    .venv/bin/python -m benchmarks.bev_lift

Both lift the features of the shipped recipes' grids, forward and backward: one image of KITTI to
CMKD's grid, and the six images of a nuScenes sample. Memory is the growth of a fresh process's
largest resident set over one pass; time is CPU time, in turns.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.support.measure import compare
from benchmarks.support.memory import in_fresh_process, peak_gib
from benchmarks.support.rows import Row, publish
from mono3d.codec.points import level_size
from mono3d.config.load import load_recipe
from mono3d.config.model_sections import BevModel
from mono3d.geometry.camera import BEV_FROM_LEVEL_CAM
from mono3d.model.lift import Sights, dense_lift, find_sights, lean_lift
from mono3d.training.model_assembly import build_bins, build_grid

RECIPES = {"kitti_caddn": 1, "nuscenes_bev": 6}
"""Recipe → cameras of a frame."""
Lift = Callable[[Tensor, Tensor, Sights], Tensor]
LIFTS: dict[str, Lift] = {"lean": lean_lift, "dense": dense_lift}


@dataclass(frozen=True)
class _Work:
    """What is lifted."""

    features: Tensor
    depth: Tensor
    sights: Sights

    def __call__(self, lift: Lift) -> None:
        """One pass, forward and backward."""
        self.features.grad = self.depth.grad = None
        lift(self.features, self.depth, self.sights).square().sum().backward()


def _work(recipe: str) -> _Work:
    """The maps and voxels of a recipe, cameras looking all around."""
    torch.manual_seed(0)
    config = load_recipe(recipe)
    model = config.model
    assert isinstance(model, BevModel)
    size = (config.input.image_height_px, config.input.image_width_px)
    cells, bins, cameras = level_size(size, model.stride_px), build_bins(model), RECIPES[recipe]
    focal = model.depth_code.reference_focal_px
    projection = torch.tensor([
        [focal, 0, size[1] / 2, 0], [0, focal, size[0] / 2, 0], [0, 0, 1.0, 0]
    ])  # fmt: skip
    angle = torch.arange(cameras) * (2 * torch.pi / cameras)
    turn = torch.zeros(cameras, 4, 4)
    turn[:, 0, 0] = turn[:, 1, 1] = angle.cos()
    turn[:, 1, 0], turn[:, 0, 1] = angle.sin(), -angle.sin()
    turn[:, 2, 2] = turn[:, 3, 3] = 1
    sights = find_sights(
        build_grid(model).voxel_centers().flatten(0, 2),
        projection.expand(1, cameras, 3, 4),
        (turn @ torch.tensor(BEV_FROM_LEVEL_CAM))[None],
        stride=model.stride_px,
        map_size=cells,
        bins=bins,
    )
    return _Work(
        features=torch.randn(1, cameras, model.channels, *cells, requires_grad=True),
        depth=torch.rand(1, cameras, bins.count, *cells, requires_grad=True),
        sights=sights,
    )


def _growth_gib(recipe: str, lift: str) -> float:
    work = _work(recipe)
    before = peak_gib()
    work(LIFTS[lift])
    return peak_gib() - before


def rows(recipe: str, *, rounds: int) -> list[Row]:
    """Memory and time of the lean lift, in units of the dense one."""
    memory = {name: in_fresh_process(_growth_gib, recipe, name) for name in LIFTS}
    work = _work(recipe)
    found = compare(lambda _: work(lean_lift), lambda _: work(dense_lift), [None], rounds=rounds)
    return [
        Row(
            name=f"memory of the lean lift, {recipe}",
            ratio=memory["lean"] / memory["dense"],
            target=1.0,
            detail=f"{memory['lean']:.2f} GiB to {memory['dense']:.2f}",
        ),
        Row(
            name=f"time of the lean lift, {recipe}",
            ratio=found.ratio,
            interval=found.interval,
            target=1.0,
            detail=f"{found.work_s:.2f} s to {found.peer_s:.2f}",
        ),
    ]


def main() -> int:
    """Of both grids."""
    torch.set_num_threads(1)
    found = [row for recipe in RECIPES for row in rows(recipe, rounds=3)]
    return publish("bev_lift", found)


if __name__ == "__main__":
    sys.exit(main())
