"""A run on merged data sets by its command, and one that goes on from it with other classes."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mono3d.cli.main import app
from tests.support.merged_data import write_merged

RUNNER = CliRunner()
SMALL = {
    "input": {"image_height_px": 64, "image_width_px": 192},
    "model": {
        "backbone": {"width": 16}, "strides_px": [8, 16, 32], "channels": 8, "tower_depth": 1,
        "ground": {}, "has_depth_map": True,
    },
    "train": {"epochs": 1, "batch_size": 4, "epoch_frames": 8},
    "checkpoint": {"metric": "val/centers_depth_abs_rel", "mode": "min"},
}  # fmt: skip


@pytest.mark.slow
def test_merged_data_train_are_evaluated_and_tuned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = write_merged(tmp_path)
    for name, share in {"kitti": 1, "nus": 2, "raw": 1}.items():
        data["sets"][name]["share"] = share
    Path("merged.yaml").write_text(yaml.safe_dump({"data": data, **SMALL}))
    trained = RUNNER.invoke(app, ["train", "merged.yaml", "--local"])
    assert trained.exit_code == 0, trained.output
    assert "merged, 2 steps" in trained.stdout
    command = ["evaluate", "runs/merged", "-o", "report", "--figures", "report"]
    measured = RUNNER.invoke(app, command)
    assert measured.exit_code == 0, measured.output
    metrics = json.loads(Path("report/metrics.json").read_text())
    result = json.loads(Path("runs/merged/result.json").read_text())["metrics"]
    for name in (
        "centers_depth_abs_rel", "kitti/centers_depth_abs_rel", "kitti/kitti_3d_moderate",
        "nus/nuscenes_map", "nus/dense_depth_abs_rel",
    ):  # fmt: skip
        assert metrics[name] == pytest.approx(result[f"val/{name}"])
    assert "─ kitti ─" in measured.stdout
    assert f"mAP {metrics['nus/nuscenes_map']:.4f}" in measured.stdout
    assert Path("report/predictions_0.png").read_bytes().startswith(b"\x89PNG")

    own = {
        "kind": "kitti", "root": "kitti", "train_split": "all", "val_split": "train",
        "class_names": ["Van", "car"], "label_map": {"Car": "car"},
    }  # fmt: skip
    tuning = {**SMALL, "data": own, "train": {**SMALL["train"], "init_from": "runs/merged"}}
    tuning["model"] = {**SMALL["model"], "ground": {"height_m": -1.73}}
    Path("own.yaml").write_text(yaml.safe_dump(tuning))
    tuned = RUNNER.invoke(app, ["train", "own.yaml", "--local"])
    assert tuned.exit_code == 0, tuned.output
    said = " ".join(tuned.output.split())
    assert "2 more in part; left out: class_branches.conv class_logits (pedestrian); new" in said
    assert "new here: class_branches.conv class_logits (Van)" in said
