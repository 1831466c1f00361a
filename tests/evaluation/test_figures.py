"""Figures show the numbers they are given, and say when there are none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mono3d.evaluation.depth_quality import DepthPairs, concatenate
from mono3d.evaluation.figures import (
    depth_scatter_figure,
    error_by_range_figure,
    error_by_visibility_figure,
    precision_recall_figure,
    write_png,
)
from mono3d.evaluation.precision_recall import PrecisionRecall

CLASSES = ("car", "traffic_cone", "bus")


def _pairs() -> DepthPairs:
    """Six cars at 5 m, 10 % off; five cones at 25 m, 20 % off; a lost car; two buses at 55 m."""
    true = np.array([5.0] * 6 + [25.0] * 5 + [30.0] + [55.0] * 2)
    predicted = true * np.array([1.1] * 6 + [0.8] * 5 + [np.nan] + [1.3] * 2)
    labels = np.array([0] * 6 + [1] * 5 + [0] + [2] * 2)
    visibility = np.array([1.0] * 6 + [0.3] * 5 + [1.0] + [np.nan] * 2)
    return DepthPairs(
        predicted_m=predicted, true_m=true, labels=labels, range_m=true, visibility=visibility
    )


def _legend(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def _panel(figure: Figure) -> Axes:
    (axes,) = figure.axes
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    return axes


def test_error_by_range_shows_all_objects_as_bars_and_classes_as_lines() -> None:
    axes = _panel(error_by_range_figure(_pairs(), CLASSES, "error"))
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [0.1, np.nan, 0.2, np.nan, np.nan, 0.3])
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert ticks[2] == "20–30\nn = 5"
    assert ticks[-1] == "over 50\nn = 2"
    # Two buses are too few for a line.
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(lines) == ["car", "traffic cone"]
    np.testing.assert_allclose(lines["car"], [0.1] + [np.nan] * 5)
    assert _legend(axes) == ["car", "traffic cone", "all classes"]


def test_error_by_visibility_keeps_the_unknown_apart() -> None:
    axes = _panel(error_by_visibility_figure(_pairs(), CLASSES, "error"))
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [0.2, np.nan, np.nan, 0.1, 0.3])
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert ticks[0] == "0–40\nn = 5"
    assert ticks[-2:] == ["80–100\nn = 6", "unknown\nn = 2"]
    known = _pairs().select(np.isfinite(_pairs().visibility))
    axes = _panel(error_by_visibility_figure(known, CLASSES, "error"))
    assert axes.get_xticklabels()[-1].get_text() == "80–100\nn = 6"


def test_scatter_shows_found_objects_and_keeps_wild_depths_in_sight() -> None:
    pairs = concatenate(
        [
            _pairs(),
            DepthPairs(
                predicted_m=np.array([-4.0]),
                true_m=np.array([8.0]),
                labels=np.array([2]),
                range_m=np.array([8.0]),
                visibility=np.array([np.nan]),
            ),
        ]
    )
    axes = _panel(depth_scatter_figure(pairs, CLASSES, "depth"))
    points = {c.get_label(): np.asarray(c.get_offsets()) for c in axes.collections[1:]}
    assert len(points["car"]) == 6
    assert len(points["traffic cone"]) == 5
    np.testing.assert_allclose(points["bus"][-1], [8, 1.5])
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_precision_recall_ends_where_precision_does() -> None:
    curve = PrecisionRecall(
        recall=np.array([0, 0.25, 0.5, 0.75, 1.0]),
        precision=np.array([1, 0.8, 0.4, 0, 0]),
        average_precision=0.44,
    )
    axes = _panel(precision_recall_figure({"traffic_cone": curve}, "curves"))
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0, 0.25, 0.5, 0.75])
    assert _legend(axes) == ["0.44  traffic cone"]


@pytest.mark.parametrize("kind", ["range", "scatter", "curves"])
def test_empty_figures_say_so_and_can_be_written(kind: str, tmp_path: Path) -> None:
    nothing = concatenate([])
    figure = {
        "range": lambda: error_by_range_figure(nothing, CLASSES, "error"),
        "scatter": lambda: depth_scatter_figure(nothing, CLASSES, "depth"),
        "curves": lambda: precision_recall_figure({}, "curves"),
    }[kind]()
    assert "no detections" in [text.get_text() for text in _panel(figure).texts]
    write_png(figure, tmp_path / "figure.png")
    assert cv2.imread(str(tmp_path / "figure.png")) is not None


def test_png_has_150_dots_an_inch(tmp_path: Path) -> None:
    write_png(error_by_range_figure(_pairs(), CLASSES, "error"), tmp_path / "error.png")
    image = cv2.imread(str(tmp_path / "error.png"))
    assert image.shape == (630, 1080, 3)
    # Something other than background is there.
    assert (image < 128).any()
