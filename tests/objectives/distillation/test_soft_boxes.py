"""CMKD's losses between answers, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from mono3d.objectives.distillation.soft_boxes import SoftBoxes

ANCHORS = SoftBoxes(is_anchors=True, class_threshold=0.1, box_threshold=0.1)


def answers(*probabilities: tuple[float, ...], box: float = 0.0) -> dict[str, Tensor]:
    """Of one frame: an anchor a tuple, a class a number."""
    quality = torch.tensor(probabilities)[None]
    count = quality.shape[1]
    return {
        "class_logits": torch.logit(quality),
        "box_residuals": torch.full((1, count, 7), box),
        "direction": torch.tensor([5.0, -5.0]).expand(1, count, 2),
    }


def miss(p: float, q: float) -> float:
    entropy = -(q * math.log(p) + (1 - q) * math.log(1 - p))
    return entropy * (p - q) ** 2


def test_each_class_is_divided_by_the_places_that_the_teacher_is_sure_of() -> None:
    """Class 0: two of three above 0.1; class 1: none, which counts as one."""
    teacher = answers((0.8, 0.05), (0.3, 0.02), (0.05, 0.08))
    student = answers((0.5, 0.5), (0.5, 0.5), (0.5, 0.5))
    first = sum(miss(0.5, q) for q in (0.8, 0.3, 0.05)) / 2
    second = sum(miss(0.5, q) for q in (0.05, 0.02, 0.08))
    assert float(ANCHORS(student, teacher)["classes"]) == pytest.approx(first + second, rel=1e-4)


def test_boxes_weigh_by_how_sure_the_teacher_is() -> None:
    """Sums 0.9, 0.3 and 0.09: the last is below the threshold, the mean is over two places."""
    teacher = answers((0.8, 0.1), (0.2, 0.1), (0.05, 0.04))
    student = answers((0.5, 0.5), (0.5, 0.5), (0.5, 0.5), box=1.0)
    six = 6 * (1 - 1 / 18)
    yaw = math.sin(1.0) - 1 / 18
    wanted = (0.9 + 0.3) / 2 * (six + yaw)
    assert float(ANCHORS(student, teacher)["box"]) == pytest.approx(wanted, rel=1e-4)


def test_directions_are_the_teachers_choice() -> None:
    teacher = answers((0.6, 0.3))
    student = {**answers((0.5, 0.5)), "direction": torch.tensor([[[0.0, math.log(3)]]])}
    found = ANCHORS(student, teacher)["direction"]
    assert float(found) == pytest.approx(0.9 * math.log(4), rel=1e-4)


def test_who_answers_like_the_teacher_pays_for_nothing() -> None:
    teacher = answers((0.8, 0.1), (0.2, 0.1))
    found = ANCHORS(teacher, teacher)
    assert float(found["classes"]) == pytest.approx(0, abs=1e-7)
    assert float(found["box"]) == 0
    assert float(found["direction"]) == pytest.approx(0, abs=1e-3)


def test_a_teacher_that_is_sure_of_nothing_teaches_no_boxes() -> None:
    teacher = answers((0.01, 0.02), (0.03, 0.04))
    student = answers((0.5, 0.5), (0.5, 0.5), box=3.0)
    found = ANCHORS(student, teacher)
    assert float(found["box"]) == float(found["direction"]) == 0
    assert float(found["classes"]) > 0


def test_centres_compare_what_their_head_says() -> None:
    centers = SoftBoxes(is_anchors=False, class_threshold=0.3, box_threshold=0.1)
    places = {"offset": 2, "height": 1, "log_dims": 3, "axis": 2}
    teacher = {
        "class_logits": torch.logit(torch.tensor([[[0.5]]])),
        "direction": torch.tensor([[[1.0, 0.0]]]),
        **{name: torch.zeros(1, 1, count) for name, count in places.items()},
    }
    student = {**teacher, "height": torch.ones(1, 1, 1)}
    assert float(centers(student, teacher)["box"]) == pytest.approx(0.5 * (1 - 1 / 18), rel=1e-4)
