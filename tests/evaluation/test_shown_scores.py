"""From which score on detections are shown."""

import pytest

from mono3d.evaluation.shown_scores import shown_scores


def test_each_class_has_the_score_that_was_best_in_its_evaluation() -> None:
    metrics = {"val/nuscenes_car_threshold": 0.35, "nuscenes_bus_threshold": 0.9}
    found = shown_scores(["bus", "car"], metrics, prefix="val/").tolist()
    assert found == pytest.approx([0.2, 0.35])
    assert shown_scores(["bus", "car"], metrics).tolist() == pytest.approx([0.9, 0.2])
