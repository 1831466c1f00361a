"""The official evaluation on any list of samples."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mono3d.codec.nuscenes_names import CAMERAS
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.errors import DataError
from mono3d.evaluation.nuscenes_devkit import DetectionCurve, NuScenesMetrics, evaluate_submission
from mono3d.geometry.camera import is_in_image, project
from tests.support.nuscenes_tables import IMAGE_SIZE, VERSION, write_tables

SAMPLES = ["scene-a-sample-0", "scene-a-sample-1", "scene-b-sample-0", "scene-b-sample-1"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("nuscenes"))


def evaluate(
    root: Path, results: dict[str, Any], samples: list[str], cameras: Sequence[str] = ()
) -> NuScenesMetrics:
    content = {"meta": {}, "results": results}
    return evaluate_submission(
        content, root=root, version=VERSION, sample_tokens=samples, cameras=cameras
    )


def cars(root: Path, sample: str, shift_m: float = 0.0) -> list[dict[str, Any]]:
    """The two cars of a sample as they are annotated, moved along x."""
    rows = json.loads((root / VERSION / "sample_annotation.json").read_text())
    ours = [r for r in rows if r["sample_token"] == sample and r["size"] == [1.9, 4.6, 1.7]]
    return [
        {
            "sample_token": sample,
            "translation": [row["translation"][0] + shift_m, *row["translation"][1:]],
            "size": row["size"],
            "rotation": row["rotation"],
            "velocity": [1.0, -2.0],
            "detection_name": "car",
            "detection_score": 0.5,
            "attribute_name": "vehicle.moving",
        }
        for row in ours
    ]


def test_shifted_cars_match_beyond_their_shift(root: Path) -> None:
    metrics = evaluate(root, {s: cars(root, s, shift_m=0.7) for s in SAMPLES}, SAMPLES)
    values = metrics.values
    assert metrics.num_ground_truth["car"] == 8
    assert values["nuscenes_car_ap_0.5m"] == 0
    assert values["nuscenes_car_ap_1m"] == pytest.approx(1)
    assert values["nuscenes_car_ap"] == pytest.approx(0.75)
    assert values["nuscenes_map"] == pytest.approx(0.075)
    assert values["nuscenes_car_ate"] == pytest.approx(0.7)
    assert values["nuscenes_car_ave"] == pytest.approx(0, abs=1e-9)
    assert values["nuscenes_car_aae"] == 0
    # Nine classes without a detection have error 1, those without the notion none.
    assert values["nuscenes_mate"] == pytest.approx((0.7 + 9) / 10)
    assert values["nuscenes_mave"] == pytest.approx(7 / 8)
    assert "nuscenes_traffic_cone_aoe" not in values
    assert metrics.curves["car"][4.0].precision[50] == 1
    assert values["nuscenes_car_threshold"] == metrics.curves["car"][2.0].best_threshold
    assert 0 < values["nuscenes_car_threshold"] < 1


def test_missing_samples_count_as_empty_and_are_named(root: Path) -> None:
    metrics = evaluate(root, {SAMPLES[0]: cars(root, SAMPLES[0])}, SAMPLES)
    assert metrics.missing_samples == tuple(SAMPLES[1:])
    assert metrics.num_ground_truth["car"] == 8
    only = evaluate(root, {SAMPLES[0]: cars(root, SAMPLES[0])}, SAMPLES[:1])
    assert only.values["nuscenes_car_ap"] == pytest.approx(1)
    assert 0 < metrics.values["nuscenes_car_ap"] < 0.25


def test_cameras_are_measured_by_what_they_see(root: Path) -> None:
    """As many objects and boxes as project into the images, by the dataset's own cameras."""
    everything = {s: cars(root, s) for s in SAMPLES}
    seen = {}
    for camera in CAMERAS:
        frames = NuScenesDataset(
            root, version=VERSION, split="all", class_names=("car",), cameras=(camera,)
        )
        inside = 0
        for index in range(len(frames)):
            ((boxes, projection),) = frames.camera_labels(index)
            pixels = project(boxes.centers, projection)
            is_ahead = boxes.centers[:, 2] > 0
            inside += int((is_in_image(pixels, IMAGE_SIZE) & is_ahead).sum())
        found = evaluate(root, everything, SAMPLES, (camera,))
        seen[camera] = found.num_ground_truth["car"]
        assert seen[camera] == inside
        assert found.values["nuscenes_car_ap"] == pytest.approx(1 if inside else 0)
    assert sum(count > 0 for count in seen.values()) > 2
    assert evaluate(root, everything, SAMPLES, CAMERAS).num_ground_truth["car"] <= 8
    with pytest.raises(DataError, match="has no camera CAM_TOP; it has"):
        evaluate(root, everything, SAMPLES, ("CAM_TOP",))


def test_the_best_threshold_balances_precision_and_recall() -> None:
    recall = np.linspace(0, 1, 101)
    precision = np.where(recall <= 0.8, 0.9, 0.0)
    confidence = np.where(recall <= 0.8, 1 - recall, 0.0)
    curve = DetectionCurve(recall=recall, precision=precision, confidence=confidence)
    assert curve.best_threshold == pytest.approx(0.2)
    nothing = DetectionCurve(recall=recall, precision=0 * recall, confidence=0 * recall)
    assert nothing.best_threshold == 1.0


def test_no_detection_at_all_scores_zero_in_silence(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    metrics = evaluate(root, {}, SAMPLES)
    assert metrics.values["nuscenes_map"] == 0
    assert metrics.values["nuscenes_nds"] == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({SAMPLES[0]: [{}] * 501}, "scene-a-sample-0 has more than 500 boxes"),
        ({SAMPLES[0]: [{"sample_token": "x"}]}, "a box breaks the format .*translation"),
        (None, "'results' must map sample tokens"),
    ],
)
def test_broken_submission_is_refused(root: Path, results: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(root, results, SAMPLES)


def test_unknown_sample_and_missing_tables_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sample 'nowhere' to evaluate on"):
        evaluate(root, {}, ["nowhere"])
    with pytest.raises(DataError, match="tables cannot be read"):
        evaluate(tmp_path, {}, SAMPLES)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("detections", "golden"),
    [
        ("trelpy_pointpillars_results_nusc", "trelpy_pointpillars_published_metrics_summary"),
        ("centerpoint_ab3dmot_results_nusc", "centerpoint_ab3dmot_devkit_metrics_summary"),
    ],
)
def test_published_scores_of_mini_val_are_reproduced(
    detections: str, golden: str, real_data: Path
) -> None:
    root = real_data / "nuscenes" / "mini_val_eval"
    content = json.loads((root / "detections" / f"{detections}.json").read_text())
    expected = json.loads((root / "golden" / f"{golden}.json").read_text())
    samples = json.loads((root / "v1.0-mini" / "sample.json").read_text())
    tokens = [sample["token"] for sample in samples]
    metrics = evaluate_submission(content, root=root, version="v1.0-mini", sample_tokens=tokens)
    assert metrics.values["nuscenes_map"] == pytest.approx(expected["mean_ap"], abs=1e-12)
    assert metrics.values["nuscenes_nds"] == pytest.approx(expected["nd_score"], abs=1e-12)
    for name, aps in expected["label_aps"].items():
        for distance, ap in aps.items():
            value = metrics.values[f"nuscenes_{name}_ap_{float(distance):g}m"]
            assert value == pytest.approx(ap, abs=1e-12), (name, distance)
    for name in ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"):
        short = {"trans": "ate", "scale": "ase", "orient": "aoe", "vel": "ave", "attr": "aae"}
        value = metrics.values[f"nuscenes_m{short[name.removesuffix('_err')]}"]
        assert value == pytest.approx(expected["tp_errors"][name], abs=1e-9)
