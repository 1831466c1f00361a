"""Real nuScenes frames: what is learnt by heart lies where the cars are."""

from pathlib import Path

import pytest

from mono3d.config.load import load_recipe
from mono3d.training.local import train_locally


@pytest.mark.slow
@pytest.mark.real_data
def test_overfitting_real_frames_finds_their_depth(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = f"data.root={real_data / 'nuscenes' / 'tiny_images'}"
    overrides = [place, "train.epochs=25", "evaluation.every_epochs=25"]
    config = load_recipe("nuscenes_overfit", overrides)
    result = train_locally(config, name="overfit")
    assert result.metrics["val/centers_depth_abs_rel"] < 0.25
