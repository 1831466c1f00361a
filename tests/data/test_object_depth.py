from dataclasses import replace

import pytest
import torch

from mono3d.data.object_depth import object_depth_map
from mono3d.structures import Boxes3D
from tests.support.boxes import make_boxes

PROJECTION = torch.tensor([[100.0, 0, 50, 0], [0, 100, 30, 0], [0, 0, 1, 0]])
SIZE = (60, 100)


def test_no_object_no_depth() -> None:
    assert torch.equal(object_depth_map(Boxes3D.empty(), PROJECTION, SIZE), torch.zeros(SIZE))


def test_an_object_fills_its_2d_box_with_the_depth_of_its_centre() -> None:
    """A cube of 2 m at 10 m: its near face, at 9 m, is 22.2 px wide around the centre."""
    found = object_depth_map(make_boxes([[0.0, 0, 10]], dims_hwl=(2.0, 2, 2)), PROJECTION, SIZE)
    rows, columns = torch.nonzero(found, as_tuple=True)
    assert set(found.unique().tolist()) == {0.0, 10.0}
    assert (int(rows.min()), int(rows.max())) == (19, 41)
    assert (int(columns.min()), int(columns.max())) == (39, 61)


def test_the_nearest_object_is_on_top_whatever_the_order() -> None:
    boxes = make_boxes([[0.0, 0, 10], [0.0, 0, 20]])
    boxes = replace(boxes, dims_hwl=torch.tensor([[1.0, 1, 1], [8.0, 8, 8]]))
    found = object_depth_map(boxes, PROJECTION, SIZE)
    assert found[30, 50] == 10
    assert found[20, 40] == 20
    other = object_depth_map(boxes.select(torch.tensor([1, 0])), PROJECTION, SIZE)
    assert torch.equal(found, other)


@pytest.mark.parametrize("depth_m", [-10.0, -0.5])
def test_an_object_whose_centre_is_behind_the_camera_leaves_nothing(depth_m: float) -> None:
    """The second one is 4 m long, and its front is before the camera, around the one at 10 m."""
    boxes = make_boxes([[0.0, 0, depth_m], [0.0, 0, 10]])
    found = object_depth_map(boxes, PROJECTION, SIZE)
    alone = object_depth_map(boxes.select(torch.tensor([1])), PROJECTION, SIZE)
    assert torch.equal(found, alone)
    assert alone.any()
