"""Detectors in bird's-eye view through evaluation, training, resuming and prediction."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mono3d.codec.bev_codec import BevCodec
from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.errors import ConfigError
from mono3d.structures import Batch, Predictions
from mono3d.training.datasets import build_dataset
from mono3d.training.evaluate import evaluate_split
from mono3d.training.local import train_locally
from mono3d.training.model_assembly import build_codec
from mono3d.training.predict import Detector
from tests.codec.test_bev_codecs import perfect_responses

TINY = (
    "input.image_height_px=64", "input.image_width_px=128", "model.backbone.width=16",
    "model.channels=8", "model.lifted_channels=8", "model.bev_channels=[8]", "model.bev_layers=1",
    "train.batch_size=1", "train.accumulate=1", "train.precision=float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cameras and LiDAR."""
    config = SyntheticConfig(
        image_size=(400, 224), train_scenes=2, val_scenes=3, samples_per_scene=2, seed=5
    )
    return write_nuscenes(tmp_path_factory.mktemp("nuscenes"), config, num_processes=1).root


def configured(world: Path, *changes: str) -> RunConfig:
    return load_recipe("nuscenes_bev_small", [f"data.root={world}", *TINY, *changes])


class KnowsLabels(nn.Module):
    """Answers with the labels themselves, in the code of a run's detector."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        codec = build_codec(config)
        assert isinstance(codec, BevCodec)
        self._codec = codec
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Batch) -> Predictions:
        size = (batch.images.shape[-2], batch.images.shape[-1])
        positives = self._codec.encode(batch.boxes_cam, batch.boxes_bev, batch.projection, size)
        said = perfect_responses(self._codec, replace(batch, positives=positives))
        images = batch.images.shape[0] * batch.images.shape[1]
        said["depth_m"] = torch.full((images, (size[0] // 8) * (size[1] // 8)), 20.0)
        return Predictions(responses=said)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("data.cameras=[CAM_BACK]",),
        ("data.cameras=[CAM_FRONT_LEFT,CAM_BACK]", "model.head={kind: anchors, positive_iou: 0.5}"),
    ],
    ids=["six cameras", "one camera", "two cameras, anchors"],
)
def test_who_knows_the_labels_is_measured_as_nearly_perfect(
    world: Path, changes: tuple[str, ...]
) -> None:
    config = configured(world, *changes, "model.grid.x_range_m=[-56, 56]",
                        "model.grid.y_range_m=[-56, 56]", "input.min_points=1")  # fmt: skip
    dataset = build_dataset(config, "val")
    assert len(dataset) == 6
    metrics = evaluate_split(config, KnowsLabels(config), None, dataset).metrics
    for name in ("car", "truck", "pedestrian"):
        if f"nuscenes_{name}_ap" in metrics:
            assert metrics[f"nuscenes_{name}_ap"] > 0.9, name
    assert metrics["nuscenes_car_ate"] < 0.05
    assert metrics["nuscenes_car_ase"] < 0.02
    assert metrics["nuscenes_car_aoe"] < 0.02
    if "anchors" not in str(changes):  # anchors say no velocity
        assert metrics["nuscenes_car_ave"] < 0.05
    # What is found in each camera's image lies at its object's depth.
    assert metrics["matched_depth_abs_rel"] < 0.01
    assert "centers_depth_abs_rel" in metrics


def test_latency_is_measured_where_it_is_asked_for(world: Path) -> None:
    for asked in (False, True):
        config = configured(world, f"evaluation.latency={str(asked).lower()}")
        dataset = build_dataset(config, "val")
        metrics = evaluate_split(config, KnowsLabels(config), None, dataset, max_frames=2).metrics
        assert ("latency_ms" in metrics) is asked
    assert 0 < metrics["latency_ms"] < 60_000


@pytest.mark.slow
def test_a_run_on_six_cameras_trains_resumes_and_predicts(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = (
        "train.epochs=2", "train.epoch_frames=2", "evaluation.every_epochs=2", "mining.kind=gmm",
        "mining.warmup_epochs=0", "train.log_every_steps=1",
    )  # fmt: skip
    config = configured(world, *changes)
    result = train_locally(config, name="whole")
    assert "val/nuscenes_map" in result.metrics
    assert "val/dense_depth_abs_rel" in result.metrics
    detector = Detector.load(str(tmp_path / "runs/whole"))
    assert detector.num_cameras == 6
    dataset = build_dataset(config, "val", with_points=False, has_labels=False)
    found = detector.detect(dataset[0])
    assert len(found) <= config.evaluation.top_k
    lines = Path("runs/whole/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert any("mining/weight_mean" in record["metrics"] for record in records)
    with pytest.raises(ConfigError, match=r"bev_from_cam \(--camera-height\) is missing"):
        detector.predict(dataset[0].images[0].permute(1, 2, 0).numpy(), dataset[0].projection[0])
    one = detector.predict(
        dataset[0].images[0].permute(1, 2, 0).numpy(),
        dataset[0].projection[0],
        bev_from_cam=detector.level_pose(1.6),
    )
    assert (one.boxes.centers[:, 2] > -60).all()
