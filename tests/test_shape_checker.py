"""The shape checker is on in tests: without its name in pytest's options nothing is checked."""

import pytest
import torch
from jaxtyping import TypeCheckError

from mono3d.geometry.angles import wrap
from mono3d.geometry.camera import project
from mono3d.structures import Boxes3D, Detections


def test_a_wrong_shape_raises() -> None:
    with pytest.raises(TypeCheckError, match="points_cam"):
        project(torch.zeros(5, 2), torch.zeros(3, 4))


def test_a_wrong_dtype_raises() -> None:
    with pytest.raises(TypeCheckError, match="angle"):
        wrap(torch.zeros(5, dtype=torch.int64))


def test_axes_of_one_name_must_agree_between_arguments() -> None:
    with pytest.raises(TypeCheckError, match="projection"):
        project(torch.zeros(5, 3), torch.zeros(4, 3, 4))


def test_fields_of_structures_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="scores"):
        Detections(boxes=Boxes3D.empty(), scores=torch.zeros(1, 1))
