"""Detectors on a grid and who teaches them: what is wrong is named before anything runs."""

import pytest

from mono3d.config.load import load_recipe, parse
from mono3d.config.model_sections import BevModel, GridModel, LidarModel
from mono3d.errors import ConfigError
from mono3d.training.model_assembly import build_codec

ROOT = "data.root=somewhere"
CMKD = "distillation={kind: cmkd, teacher: runs/t}"
MONOTAKD = "distillation={kind: monotakd, teacher: runs/t"


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("kitti_caddn", ("evaluation.flip=true",), r"evaluation\.flip=true: is for detectors"),
        ("kitti_caddn", ("mining.kind=lss",), r"mining\.kind=lss: .* not for model\.kind=bev"),
        ("kitti_caddn", ("iou_loss.kind=gciou",), r"iou_loss\.kind=gciou: is for detectors that"),
        (
            "kitti_caddn",
            ("evaluation.position_tolerances_m=[1, 2]",),
            r"position_tolerances_m=\[1\.0, 2\.0\]: is for detectors that answer in images",
        ),
        ("kitti_caddn", ("loss.depth_loss=laplace",), r"loss\.depth_loss=laplace: is for"),
        (
            "kitti_caddn",
            ("model.depth_targets=none", "mining.kind=gmm"),
            r"mining\.kind=gmm: mines depth in images, and model\.depth_targets=none",
        ),
        (
            "kitti_caddn",
            ("model.depth_targets=none", "model.depth_input=lidar"),
            r"model\.depth_input=lidar: lifts by true depth, so with model\.depth_targets=none",
        ),
        (
            "kitti_caddn",
            ("model.lifted_channels=24", "model.adaptation_blocks=1"),
            r"lifted_channels=24: must be a multiple of 16",
        ),
        (
            "kitti_caddn",
            ("model.residual_stream=true", "model.adaptation_blocks=1"),
            r"adaptation_blocks=1: not together with residual_stream=true",
        ),
        ("kitti_caddn", ("input.paste_frames=2",), r"paste_frames=2: pastes LiDAR points and no"),
        ("lidar_pillars_kitti", ("mining.kind=gmm",), r"mining\.kind=gmm: is for detectors that"),
        (
            "lidar_pillars_kitti",
            ("model.head.positive_iou=0.3",),
            r"negative_iou=0\.45: must not exceed positive_iou=0\.3",
        ),
        ("kitti_baseline", (CMKD,), r"distillation\.kind=cmkd: compares maps on a grid, which"),
        (
            "kitti_caddn",
            (MONOTAKD + ", residual: 1}",),
            r"distillation\.residual=1: .* needs model\.residual_stream=true",
        ),
        (
            "kitti_caddn",
            (MONOTAKD + ", residual: 0}", "model.depth_input=lidar"),
            r"model\.depth_input=lidar: who lifts by true depth is an assistant itself",
        ),
        (
            "kitti_cmkd",
            tuple(f"distillation.{k}=0" for k in ("feature", "classes", "box", "direction")),
            r"feature, classes, box and direction are all 0",
        ),
        (
            "kitti_cmkd",
            ("train.epochs=40",),
            r"response_from_epoch=60: answers would never be learnt in 40 epochs",
        ),
        ("kitti_caddn", ("model.bev_channels=[]",), r"model\.bev_channels=\[\]: "),
        (
            "kitti_add_bev",
            ("distillation.heads=7",),
            r"distillation\.heads=7: must divide model\.lifted_channels=128",
        ),
    ],
)
def test_what_does_not_fit_is_named(recipe: str, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_recipe(recipe, [ROOT, *changes])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.grid.cell_m=0.5", r"model\.grid\.x_range_m=2, 46\.8: is 89\.6 cells of 0\.5 m"),
        ("model.grid.z_range_m=[1, -3]", r"model\.grid\.z_range_m=1, -3: must rise"),
        ("model.depth_bins.max_m=1", r"model\.depth_bins: .*max_m=1"),
    ],
)
def test_an_impossible_grid_is_named_when_it_is_built(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_codec(load_recipe("kitti_caddn", [ROOT, change]))


def merged(model: dict[str, object], **cameras: int) -> dict[str, object]:
    """A run on several sets of so many cameras."""
    sets = {
        name: {
            "kind": "nuscenes", "root": name, "ground_height_m": 0.0, "train_split": "train",
            "val_split": "val", "cameras": [f"CAM_{i}" for i in range(count)],
        }
        for name, count in cameras.items()
    }  # fmt: skip
    data = {"kind": "merged", "class_names": ["car"], "sets": sets}
    metric = {"metric": "val/centers_depth_abs_rel", "mode": "min"}
    return {"data": data, "model": model, "checkpoint": metric}


def test_merged_sets_must_have_as_many_cameras() -> None:
    grid = {"kind": "bev", "grid": {"ground_height_m": 0}}
    assert isinstance(parse(merged(grid, first=2, second=2), source="test").model, BevModel)
    with pytest.raises(ConfigError, match=r"must have as many cameras: first 2, second 6"):
        parse(merged(grid, first=2, second=6), source="test")
    with pytest.raises(ConfigError, match=r"ground_height_m=-1\.73: is 0 in merged data"):
        parse(merged({"kind": "bev"}, first=2, second=2), source="test")


def test_a_teacher_has_the_grid_of_its_student() -> None:
    """The recipes that the documentation names together."""
    for student, teacher in (
        ("kitti_cmkd", "lidar_pillars_kitti"),
        ("kitti_cmkd_small", "lidar_pillars_kitti_small"),
        ("nuscenes_cmkd", "lidar_pillars_nuscenes"),
        ("nuscenes_monotakd_small", "lidar_pillars_nuscenes_small"),
    ):
        own, theirs = load_recipe(student).model, load_recipe(teacher).model
        assert isinstance(own, GridModel)
        assert isinstance(theirs, LidarModel)
        assert own.grid == theirs.grid
        assert own.bev_channels == theirs.bev_channels
        assert own.lifted_channels == theirs.lifted_channels
