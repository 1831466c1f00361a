"""A run on a folder in KITTI's format, from its files to its pictures, in one process."""

from pathlib import Path

import pytest

from mono3d.config.load import load_recipe
from mono3d.training.assess import assess_checkpoint
from mono3d.training.local import train_locally
from tests.support.kitti_folder import write_kitti

FAMILIES = {
    "dense": ("model.has_depth_map=true", "evaluation.flip=true"),
    "center": (
        "model={kind: center, backbone: {kind: resnet, depth: 18}}", "model.has_depth_map=true",
        "model.has_uncertainty=true", "loss.depth_loss=laplace", "model.has_keypoints=true",
        "evaluation.flip=true",
    ),
    "bev": (
        "model={kind: bev, backbone: {kind: resnet, depth: 18}}", "model.lifted_channels=8",
        "model.bev_channels=[8]", "model.bev_layers=1", "model.grid.cell_m=0.64",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_kitti_folder_trains_and_is_evaluated(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_kitti(tmp_path / "kitti")
    shrunk = (
        "train.epochs=2", "evaluation.every_epochs=2", "input.image_height_px=64",
        "input.image_width_px=192", *FAMILIES[family], "model.backbone.width=16",
        "model.channels=8", "train.batch_size=1",
    )  # fmt: skip
    config = load_recipe("kitti_overfit", [f"data.root={root}", *shrunk])
    result = train_locally(config, name="small")
    error = result.metrics["val/centers_depth_abs_rel"]
    assert 0 < error < 5
    assert not any("nuscenes" in name for name in result.metrics)
    assessment = assess_checkpoint(result.best_checkpoint, [], tmp_path / "report")
    assert assessment.metrics["centers_depth_abs_rel"] == pytest.approx(error)
    for name in ("kitti_Car_3d_moderate", "kitti_bev_hard_loose"):
        assert 0 <= assessment.metrics[name] <= 100
        assert assessment.metrics[name] == pytest.approx(result.metrics[f"val/{name}"])
    assert assessment.metrics["dense_depth_abs_rel"] > 0
    drawn = {path.name for path in assessment.figures}
    assert {"depth_error_by_range.png", "depth_predicted_vs_true.png"} <= drawn
