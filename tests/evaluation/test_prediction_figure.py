"""Predictions beside labels: which image lies where, and what is seen from above."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from torch import Tensor

from mono3d.evaluation.drawing import LABEL_COLOR, PREDICTION_COLOR
from mono3d.evaluation.prediction_figure import predictions_figure
from mono3d.structures import Boxes3D, Detections, Frame
from tests.support.boxes import make_boxes

CLASSES = ("car",)
HEADINGS = {  # Radians to the left of the vehicle's nose.
    "FRONT": 0.0, "FRONT_RIGHT": -0.96, "BACK_RIGHT": -1.92,
    "BACK": math.pi, "BACK_LEFT": 1.92, "FRONT_LEFT": 0.96,
}  # fmt: skip


def _bev_from_cam(heading: float) -> Tensor:
    cos, sin = math.cos(heading), math.sin(heading)
    rows = [[sin, 0, cos, 1.5], [-cos, 0, sin, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]]
    return torch.tensor(rows)


def _frame(names: tuple[str, ...], boxes: Boxes3D | None) -> Frame:
    projection = torch.tensor([[60.0, 0, 40, 0], [0, 60, 24, 0], [0, 0, 1, 0]])
    return Frame(
        frame_id="0001",
        camera_names=names,
        images=torch.zeros(len(names), 3, 48, 80, dtype=torch.uint8),
        projection=projection.expand(len(names), 3, 4),
        bev_from_cam=torch.stack([_bev_from_cam(HEADINGS[name]) for name in names]),
        boxes_cam=None if boxes is None else (boxes,) * len(names),
        boxes_bev=None if boxes is None else Boxes3D.empty(),
        points=torch.tensor([[10.0, 0.0, 0.0, 0.5]]),
    )


def _detections(boxes: Boxes3D) -> Detections:
    return Detections(boxes=boxes, scores=torch.linspace(0.9, 0.5, len(boxes)))


def _center_from_above(axes: Axes, color: str) -> list[float]:
    """Middle of the first outline of one colour, as (left, ahead)."""
    for lines in axes.collections:
        is_ours = isinstance(lines, LineCollection) and len(lines.get_colors())
        if is_ours and np.allclose(lines.get_colors()[0][:3], to_rgb(color)):
            outline = np.array(lines.get_segments()[0])
            return outline[:4].mean(0).tolist()  # type: ignore[no-any-return]
    raise AssertionError(f"nothing of colour {color}")


def test_six_cameras_are_arranged_as_they_look() -> None:
    frame = _frame(tuple(HEADINGS), None)
    figure = predictions_figure(frame, _detections(Boxes3D.empty()), CLASSES)
    titles = [axes.get_title() for axes in figure.axes[:6]]
    assert titles == ["FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT"]
    above = figure.axes[6]
    assert above.get_xlim()[0] > above.get_xlim()[1]
    assert "no detections" in [text.get_text() for text in above.texts]


def test_boxes_of_several_cameras_are_in_the_bev_frame() -> None:
    frame = _frame(("FRONT", "BACK"), None)
    boxes = replace(make_boxes([(2, 1, 10)]), centers=torch.tensor([[-8.5, 2.0, 0.8]]))
    figure = predictions_figure(frame, _detections(boxes), CLASSES)
    front, back, above = figure.axes
    assert _center_from_above(above, PREDICTION_COLOR) == pytest.approx([2, -8.5])
    assert not front.texts
    assert [text.get_text() for text in back.texts] == ["car 0.90"]


def test_one_camera_is_seen_from_above_looking_up() -> None:
    frame = _frame(("BACK_RIGHT",), make_boxes([(-3, 1, 20)]))
    figure = predictions_figure(frame, _detections(make_boxes([(2, 1, 10)])), CLASSES)
    image, above = figure.axes
    assert _center_from_above(above, LABEL_COLOR) == pytest.approx([3, 20])
    assert _center_from_above(above, PREDICTION_COLOR) == pytest.approx([-2, 10])
    assert [text.get_text() for text in image.texts] == ["car 0.90"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["prediction", "label"]


def test_unlabelled_frames_have_no_label_in_the_legend() -> None:
    frame = _frame(("FRONT",), None)
    figure = predictions_figure(frame, _detections(make_boxes([(2, 1, 10)])), CLASSES)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["prediction"]


def test_view_from_above_reaches_the_boxes_within_limits() -> None:
    for depth, reach in ((8, 30), (41, 50), (200, 60)):
        frame = _frame(("FRONT",), None)
        figure = predictions_figure(frame, _detections(make_boxes([(0, 1, depth)])), CLASSES)
        assert figure.axes[-1].get_ylim()[1] == reach
