"""Real nuScenes samples learnt by heart on a grid: six cameras with LiDAR."""

from pathlib import Path

import pytest

from mono3d.config.load import load_recipe
from mono3d.training.local import train_locally

SHORTER = (
    "train.epochs=100", "evaluation.every_epochs=100", "train.threads_per_worker=1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(1800)
def test_six_cameras_of_nuscenes_find_what_is_around(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it was measured car AP was 0.96, that of pedestrians 0.92."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = f"data.root={real_data / 'nuscenes' / 'tiny_images'}"
    config = load_recipe("nuscenes_overfit_bev", [place, *SHORTER])
    metrics = train_locally(config, name="by-heart").metrics
    assert metrics["val/nuscenes_car_ap"] > 0.8
    assert metrics["val/nuscenes_pedestrian_ap"] > 0.7
