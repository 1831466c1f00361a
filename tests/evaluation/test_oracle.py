"""Predicted quantities replaced by the truth, one at a time."""

from dataclasses import replace

import pytest
import torch

from mono3d.evaluation.oracle import QUANTITIES, Quantity, with_truth
from mono3d.geometry.camera import project
from mono3d.structures import Boxes3D, Detections
from tests.support.boxes import make_boxes
from tests.support.detections import perfect_detections

CAMERA = torch.tensor([[700.0, 0, 600, 40], [0, 700.0, 180, 0.2], [0, 0, 1, 0.003]])
IMAGE_SIZE = (375, 1242)
TRUTH = make_boxes([[-6.0, 1.0, 20.0], [3.0, 1.2, 30.0]], labels=[0, 1])


def wrong_everywhere() -> Detections:
    """Both objects a little beside where they are, too far, too large, turned, of other classes."""
    found = perfect_detections(TRUTH)
    boxes = replace(
        found.boxes,
        centers=1.2 * TRUTH.centers + torch.tensor([0.3, 0.1, 0.0]),
        dims_hwl=1.5 * TRUTH.dims_hwl,
        yaw=TRUTH.yaw + 0.7,
        labels=1 - TRUTH.labels,
    )
    return replace(found, boxes=boxes)


def replaced(*quantities: Quantity, detections: Detections | None = None) -> Boxes3D:
    detections = detections or wrong_everywhere()
    return with_truth(detections, TRUTH, CAMERA, IMAGE_SIZE, quantities).boxes


def of_right_class() -> Detections:
    wrong = wrong_everywhere()
    return replace(wrong, boxes=replace(wrong.boxes, labels=TRUTH.labels))


def test_true_depth_moves_a_box_along_its_own_ray() -> None:
    wrong = of_right_class()
    boxes = replaced("depth", detections=wrong)
    assert torch.equal(boxes.centers[:, 2], TRUTH.centers[:, 2])
    torch.testing.assert_close(
        project(boxes.centers, CAMERA), project(wrong.boxes.centers, CAMERA), rtol=0, atol=1e-2
    )
    assert torch.equal(boxes.yaw, wrong.boxes.yaw)


def test_the_true_centre_keeps_the_depth() -> None:
    wrong = of_right_class()
    boxes = replaced("centre", detections=wrong)
    assert torch.equal(boxes.centers[:, 2], wrong.boxes.centers[:, 2])
    torch.testing.assert_close(
        project(boxes.centers, CAMERA), project(TRUTH.centers, CAMERA), rtol=0, atol=1e-2
    )


def test_size_yaw_and_class_are_taken_over() -> None:
    wrong = of_right_class()
    assert torch.equal(replaced("size", detections=wrong).dims_hwl, TRUTH.dims_hwl)
    assert torch.equal(replaced("yaw", detections=wrong).yaw, TRUTH.yaw)
    assert torch.equal(replaced("class").labels, TRUTH.labels)


def test_without_its_class_a_detection_marks_nothing() -> None:
    wrong = wrong_everywhere()
    assert torch.equal(replaced("depth").centers, wrong.boxes.centers)


def test_all_together_are_the_truth() -> None:
    boxes = replaced(*QUANTITIES)
    torch.testing.assert_close(boxes.centers, TRUTH.centers, rtol=0, atol=1e-4)
    assert torch.equal(boxes.dims_hwl, TRUTH.dims_hwl)
    assert torch.equal(boxes.labels, TRUTH.labels)


def test_what_marks_no_object_and_second_guesses_stay() -> None:
    found = of_right_class()
    beside = replace(
        found,
        boxes=found.boxes.select(torch.tensor([0, 1, 0])),
        scores=torch.tensor([0.9, 0.8, 0.3]),
    )
    changed = replaced("depth", detections=beside)
    assert changed.centers[2].tolist() == beside.boxes.centers[2].tolist()
    far_off = replace(
        found, boxes=replace(found.boxes, centers=found.boxes.centers + torch.tensor([20.0, 0, 0]))
    )
    assert torch.equal(replaced("depth", detections=far_off).centers, far_off.boxes.centers)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_nothing_found_is_nothing_changed(quantity: Quantity) -> None:
    nothing = Detections(boxes=Boxes3D.empty(), scores=torch.zeros(0))
    assert len(with_truth(nothing, TRUTH, CAMERA, IMAGE_SIZE, (quantity,))) == 0
    found = of_right_class()
    same = with_truth(found, Boxes3D.empty(), CAMERA, IMAGE_SIZE, (quantity,))
    torch.testing.assert_close(same.boxes.centers, found.boxes.centers)
