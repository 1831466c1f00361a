"""A run's detections in KITTI's metric: what labels say, said back, scores fully."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mono3d.codec.kitti_results import result_columns
from mono3d.data.kitti import KittiDataset
from mono3d.evaluation.kitti import KittiAnswer, KittiMetrics, evaluate_detections
from mono3d.structures import Detections
from tests.support.detections import perfect_detections
from tests.support.kitti_folder import write_kitti

CAR = "Car 0 0 0.03 {box} 1.50 1.60 4.00 3.00 1.60 15.00 0.23"
COUNT = 41
CLASSES = ("Car", "Pedestrian")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_kitti(tmp_path)


def answers(root: Path, kind: str = "Car", **label_map: str | None) -> list[KittiAnswer]:
    """Forty-one frames with a car, each answered by its label."""
    label = root / "training" / "label_2" / "000000.txt"
    label.write_text(CAR.format(box="0 0 100 100").replace("Car", kind, 1))
    dataset = KittiDataset(root, split="all", class_names=CLASSES, label_map=label_map)
    ((boxes, projection),) = dataset.camera_labels(0)
    answer = KittiAnswer(
        label_file=dataset.label_files([0])[0],
        detections=perfect_detections(boxes),
        projection=projection,
        image_size=dataset.image_sizes([0])[0],
    )
    return [answer] * COUNT


def measure(given: list[KittiAnswer], **label_map: str | None) -> KittiMetrics:
    return evaluate_detections(given, CLASSES, label_map)


def test_what_labels_say_is_a_hit_in_space(root: Path) -> None:
    values = measure(answers(root)).values
    assert values["kitti_Car_3d_moderate"] == pytest.approx(100)
    assert values["kitti_Car_bev_hard"] == pytest.approx(100)
    assert values["kitti_Car_3d_easy_loose"] == pytest.approx(100)
    # Its label's rectangle is not where the box is.
    assert values["kitti_Car_2d_easy"] == 0
    # Nobody was taken for a pedestrian: that counts as nothing found.
    assert values["kitti_Pedestrian_3d_moderate"] == 0
    assert values["kitti_3d_moderate"] == pytest.approx(50)


def test_rectangles_are_hulls_in_the_image(root: Path) -> None:
    given = answers(root)
    path, content = given[0].label_file
    hull = " ".join(f"{value:.2f}" for value in _hull())
    same = [
        replace(a, label_file=(path, content.replace(b"0 0 100 100", hull.encode()))) for a in given
    ]
    values = measure(same).values
    assert values["kitti_Car_2d_easy"] == pytest.approx(100)
    # The label's alpha is 0.23 - atan2(3, 15), rounded.
    assert values["kitti_Car_aos_easy"] == pytest.approx(100, abs=0.001)
    (columns,), _ = result_columns(given[0].detections, given[0].projection, given[0].image_size)
    assert columns[1:5].tolist() == pytest.approx(_hull(), abs=0.01)


def _hull() -> list[float]:
    """The rectangle around CAR's projected corners, with plain numbers."""
    us, vs = [], []
    for along, across, up in itertools.product((-2, 2), (-0.8, 0.8), (0, 1.5)):
        x = 3 + along * math.cos(0.23) + across * math.sin(0.23)
        z = 15 - along * math.sin(0.23) + across * math.cos(0.23)
        depth = z + 0.002746
        us.append((721.5 * x + 609.5 * z + 44.86) / depth)
        vs.append((721.5 * (1.6 - up) + 172.9 * z + 0.2164) / depth)
    return [min(us), min(vs), max(us), max(vs)]


def test_frames_without_detections_are_misses(root: Path) -> None:
    given = answers(root)
    nothing = given[0].detections.select(torch.zeros(0, dtype=torch.int64))
    half = [replace(a, detections=nothing) for a in given]
    assert measure([*given, *half]).values["kitti_Car_3d_moderate"] == pytest.approx(50)
    assert measure(half).values["kitti_Car_3d_moderate"] == 0
    assert measure([]).values["kitti_3d_moderate"] == 0


def test_labels_count_as_what_they_are_mapped_to(root: Path) -> None:
    given = answers(root, kind="Tram", Tram="Car")
    assert len(given[0].detections) == 1
    assert measure(given, Tram="Car").values["kitti_Car_3d_moderate"] == pytest.approx(100)
    assert measure(given).values["kitti_Car_3d_moderate"] == 0


def test_a_renamed_class_is_measured_by_the_rules_of_what_it_is(root: Path) -> None:
    """0.45 m off along the road: an overlap between 0.5 and 0.7 from above."""
    given = answers(root)
    boxes = given[0].detections.boxes
    beside = replace(boxes, centers=boxes.centers + torch.tensor([0.0, 0.0, 0.45]))
    shifted = [replace(a, detections=replace(a.detections, boxes=beside)) for a in given]
    own = evaluate_detections(shifted, ("vehicle", "person"), {"Car": "vehicle"}).values
    as_car = measure(shifted).values
    assert own["kitti_vehicle_bev_moderate"] == as_car["kitti_Car_bev_moderate"] == 0
    assert own["kitti_vehicle_bev_moderate_loose"] == pytest.approx(100)
    # Nothing of KITTI's leads to it: 0.5.
    path, content = given[0].label_file
    strange = [replace(a, label_file=(path, content.replace(b"Car", b"Cart", 1))) for a in shifted]
    carts = evaluate_detections(strange, ("Cart", "person"), {}).values
    assert carts["kitti_Cart_bev_moderate"] == pytest.approx(100)


def test_detections_outside_the_image_are_no_results(root: Path) -> None:
    given = answers(root)
    boxes = given[0].detections.boxes
    behind = replace(boxes, centers=boxes.centers * torch.tensor([1.0, 1.0, -1.0]))
    both = Detections(boxes=behind.select(torch.zeros(1, dtype=torch.int64)), scores=torch.ones(1))
    assert measure([replace(a, detections=both) for a in given]).values["kitti_3d_easy"] == 0
