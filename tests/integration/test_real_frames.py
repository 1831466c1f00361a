"""Real nuScenes frames: what is learnt by heart lies where the cars are."""

import os
from pathlib import Path

import pytest

from mono3d.config.load import load_recipe
from mono3d.training.local import train_locally

REAL_DATA = os.environ.get("MONO3D_REAL_DATA")
ROOT = Path(REAL_DATA or "/nonexistent") / "nuscenes" / "tiny_images"


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(not ROOT.is_dir(), reason="MONO3D_REAL_DATA holds no nuscenes/tiny_images")
def test_overfitting_real_frames_finds_their_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    overrides = [f"data.root={ROOT}", "train.epochs=25", "evaluation.every_epochs=25"]
    config = load_recipe("nuscenes_overfit", overrides)
    result = train_locally(config, name="overfit")
    assert result.metrics["val/centers_depth_abs_rel"] < 0.25
