"""Drawing: lines where the geometry says, nothing behind the camera, names that do not collide."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mono3d.evaluation.drawing import (
    draw_outlines,
    draw_wireframes,
    name_detections,
    say_empty,
    show_image,
)
from mono3d.geometry.boxes import corners_bev
from mono3d.structures import Detections
from tests.support.boxes import make_boxes

PROJECTION = torch.tensor([[500.0, 0, 300, 0], [0, 500, 200, 0], [0, 0, 1, 0]])
IMAGE_SIZE = (400, 600)


@pytest.fixture
def axes() -> Axes:
    panel = Figure().add_subplot()
    show_image(panel, torch.zeros(3, *IMAGE_SIZE, dtype=torch.uint8), "front")
    return panel


def _lines(axes: Axes, color: str) -> np.ndarray:  # type: ignore[type-arg]
    """Ends of all segments of one colour."""
    collections = [c for c in axes.collections if isinstance(c, LineCollection)]
    chosen = [c for c in collections if np.allclose(c.get_colors()[0][:3], to_rgb(color))]
    return np.concatenate([np.array(c.get_segments()).reshape(-1, 2, 2) for c in chosen])


def test_wireframe_has_its_corners_where_they_project(axes: Axes) -> None:
    # 2 m wide, 1.5 m high; its near face 8 m away and its far face 12 m away.
    draw_wireframes(axes, make_boxes([(0, 0, 10)]), PROJECTION, IMAGE_SIZE, "#ff0000")
    lines = _lines(axes, "#ff0000")
    assert len(lines) == 12
    us, vs = np.unique(lines[..., 0].round(3)), np.unique(lines[..., 1].round(3))
    np.testing.assert_allclose(us, [237.5, 258.333, 341.667, 362.5])
    np.testing.assert_allclose(vs, [153.125, 168.75, 231.25, 246.875])


def test_box_across_the_camera_plane_is_drawn_as_far_as_it_is_in_front(axes: Axes) -> None:
    boxes = make_boxes([(2, 0, 0)], dims_hwl=(1.5, 2.0, 8.0))
    draw_wireframes(axes, boxes, PROJECTION, IMAGE_SIZE, "#ff0000")
    lines = _lines(axes, "#ff0000")
    assert len(lines) == 8
    assert np.isfinite(lines).all()
    assert lines[..., 0].min() == pytest.approx(425)


def test_box_behind_the_camera_is_not_drawn(axes: Axes) -> None:
    draw_wireframes(axes, make_boxes([(0, 0, -10)]), PROJECTION, IMAGE_SIZE, "#ff0000")
    assert sum(len(collection.get_paths()) for collection in axes.collections) == 0


def test_outlines_from_above_point_left_and_ahead() -> None:
    axes = Figure().add_subplot()
    boxes = make_boxes([(10, 5, 0)], yaw=0.0)
    corners = corners_bev(boxes.centers, boxes.dims_hwl, boxes.yaw)
    draw_outlines(axes, corners, "#0000ff", 1.0)
    outline, heading = (np.array(c.get_segments()[0]) for c in axes.collections)
    np.testing.assert_allclose(outline.min(0), [4, 8])
    np.testing.assert_allclose(outline.max(0), [6, 12])
    np.testing.assert_allclose(outline[0], outline[-1])
    np.testing.assert_allclose(heading, [[5, 10], [5, 12.6]])


def test_names_are_of_the_best_and_do_not_cover_each_other(axes: Axes) -> None:
    found = make_boxes([(0, 0, 10), (0.1, 0, 10), (-5, 0, 15), (0, 0, -10)], labels=[0, 1, 1, 0])
    detections = Detections(boxes=found, scores=torch.tensor([0.9, 0.8, 0.7, 0.6]))
    name_detections(axes, detections, PROJECTION, IMAGE_SIZE, ("car", "traffic_cone"))
    assert [text.get_text() for text in axes.texts] == ["car 0.90", "traffic cone 0.70"]


def test_image_is_shown_at_one_unit_a_pixel(axes: Axes) -> None:
    assert axes.get_xlim() == (0, 600)
    assert axes.get_ylim() == (400, 0)


def test_empty_panels_say_so(axes: Axes) -> None:
    say_empty(axes)
    assert axes.texts[0].get_text() == "no detections"
