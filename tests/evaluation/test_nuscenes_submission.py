"""The official submission format."""

import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mono3d.codec.nuscenes_names import ATTRIBUTES
from mono3d.evaluation.nuscenes_submission import submission, write_submission
from tests.support.detections import detections_at

CLASSES = ("pedestrian", "car", "barrier")


def test_box_in_the_words_of_the_benchmark() -> None:
    seen = detections_at([[1.0, 2.0, 0.5]], labels=[1], yaw=math.pi / 2, scores=[0.25])
    content = submission({"sample": seen}, CLASSES)
    (box,) = content["results"]["sample"]
    assert box["sample_token"] == "sample"
    assert box["translation"] == [1.0, 2.0, 0.5]
    assert box["size"] == [2.0, 4.0, 1.5]  # width, length, height
    assert box["rotation"] == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])
    assert (box["detection_name"], box["detection_score"]) == ("car", 0.25)
    assert content["meta"]["use_camera"] is True
    assert content["meta"]["use_lidar"] is False


@pytest.mark.parametrize(
    ("label", "predicted", "submitted"),
    [
        (1, "vehicle.moving", "vehicle.moving"),
        (1, "pedestrian.moving", "vehicle.parked"),
        (1, None, "vehicle.parked"),
        (0, None, "pedestrian.moving"),
        (2, "vehicle.moving", ""),
    ],
)
def test_attribute_is_one_that_the_class_can_have(
    label: int, predicted: str | None, submitted: str
) -> None:
    number = ATTRIBUTES.index(predicted) if predicted else -1
    seen = detections_at([[0.0, 0.0, 0.0]], labels=[label], attribute=number)
    (box,) = submission({"sample": seen}, CLASSES)["results"]["sample"]
    assert box["attribute_name"] == submitted


def test_unknown_velocity_is_zero_and_the_zip_holds_the_same_json(tmp_path: Path) -> None:
    seen = detections_at([[0.0, 0.0, 0.0]], velocity=(math.nan, 2.0))
    samples = {"sample": seen, "empty": detections_at([])}
    path = tmp_path / "nuscenes.zip"
    write_submission(iter(samples.items()), CLASSES, path)
    assert list(tmp_path.iterdir()) == [path]
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["results_nusc.json"]
        content = json.loads(archive.read("results_nusc.json"))
    assert content == submission(samples, CLASSES)
    assert content["results"]["sample"][0]["velocity"] == [0.0, 2.0]
    assert content["results"]["empty"] == []


def test_a_submission_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "nuscenes.zip"
    write_submission([("sample", detections_at([]))], CLASSES, path)
    before = path.read_bytes()
    broken = detections_at([[math.nan, 0.0, 0.0]])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_submission([("sample", broken)], CLASSES, path)
    assert path.read_bytes() == before


def test_double_precision_reaches_the_file() -> None:
    seen = detections_at([[0.0, 0.0, 0.0]])
    place = torch.tensor([[1234.56789012, 0.0, 0.0]], dtype=torch.float64)
    exact = replace(seen, boxes=replace(seen.boxes, centers=place))
    (box,) = submission({"sample": exact}, CLASSES)["results"]["sample"]
    assert box["translation"][0] == 1234.56789012
