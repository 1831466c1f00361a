"""Real KITTI frames learnt by heart on a grid: images with LiDAR, and LiDAR alone."""

from pathlib import Path

import pytest

from mono3d.config.load import load_recipe
from mono3d.training.local import train_locally

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_data,
    pytest.mark.timeout(1800),
]

WITH_VELODYNE = "000002", "000006", "000008", "000010", "000142"
CAMERA = ("train.epochs=80", "evaluation.every_epochs=80")
ONE_CORE = ("train.threads_per_worker=1",)
LIDAR = (
    "model={kind: lidar, pillar_channels: 32, lifted_channels: 32, bev_channels: [32, 64]}",
    "model.bev_layers=3", "model.grid.x_range_m=[2,66]", "model.grid.y_range_m=[-30.4,30.4]",
    "model.grid.cell_m=0.64", "model.head.has_quality=true", "loss.classification=8",
    "train.epochs=60", "evaluation.every_epochs=60",
)  # fmt: skip


@pytest.mark.parametrize("changes", [CAMERA, LIDAR], ids=["camera", "lidar"])
def test_kitti_frames_are_found_where_they_are(
    changes: tuple[str, ...], real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it was measured every object was found, their depths 0.2 % off."""
    monkeypatch.chdir(tmp_path)
    Path("few.txt").write_text("\n".join(WITH_VELODYNE))
    place = [
        f"data.root={real_data / 'kitti'}",
        "data.train_split=few.txt",
        "data.val_split=few.txt",
    ]
    config = load_recipe("kitti_overfit_bev", [*place, *changes, *ONE_CORE])
    metrics = train_locally(config, name="by-heart").metrics
    assert metrics["val/matched_depth_recall_Car"] > 0.9
    assert metrics["val/matched_depth_abs_rel_Car"] < 0.02
