"""A study in words and pictures: it says what it may, and no more."""

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from mono3d.comparison.study import differences, weaknesses
from mono3d.comparison.study_figures import differences_figure
from mono3d.comparison.study_metrics import compared, in_words
from mono3d.comparison.study_record import CellResult
from mono3d.comparison.study_report import write_report
from mono3d.comparison.variants import StudySpec
from mono3d.evaluation.figures import write_png

ERROR, RECALL = "val/centers_depth_abs_rel", "val/matched_depth_recall_50m_up"
SPEC = StudySpec.model_validate(
    {
        "about": "Does mining pay?",
        "baseline": "none",
        "variants": {
            "none": {"about": "No mining.", "set": {"mining.kind": "none"}},
            "gmm": {"about": "GMM.", "set": {"mining.kind": "gmm"}},
            "ohem": {"about": "Hardest first."},
        },
    }
)


def results(errors: dict[str, Sequence[float]], recall: float = 0.4) -> list[CellResult]:
    return [
        CellResult(
            variant=name,
            seed=seed,
            identity="i",
            metrics={
                ERROR: value,
                RECALL: recall + 0.01 * seed - (0.2 + 0.003 * seed if name == "gmm" else 0),
            },
        )
        for name, values in errors.items()
        for seed, value in enumerate(values)
    ]


def report(cells: list[CellResult], weak: Sequence[str] = (), figures: Sequence[str] = ()) -> str:
    return write_report(
        SPEC,
        cells,
        differences(SPEC, cells),
        weak,
        title="s",
        command="mono3d study demo",
        figures=figures,
    )


PLAIN = (0.130, 0.150, 0.120, 0.140, 0.135)
BETTER = (0.115, 0.138, 0.104, 0.125, 0.121)
MIXED = (0.120, 0.160, 0.110, 0.150, 0.130)


def test_the_answer_says_gain_only_where_the_interval_leaves_zero_out() -> None:
    text = report(results({"none": PLAIN, "gmm": BETTER, "ohem": MIXED}))
    assert "- gmm: depth error -0.0144 ± 0.0019 (-10.7 %) in 5 seeds: a gain." in text
    assert "- ohem: depth error -0.0010 ± 0.0127 (-0.7 %) in 5 seeds: not distinguishable" in text
    # A loss elsewhere is not hidden behind a gain.
    others = text.partition("## Other metrics")[2].partition("## All")[0]
    assert re.search(r"- gmm: recall, over 50 m -0.2.* in 5 seeds: a loss\.", others)
    assert "0.1 would be called one by chance" in text
    assert "| none | 0.1300 | 0.1500 | 0.1200 | 0.1400 | 0.1350 | 0.1350 |  |  |" in text


def test_nothing_is_claimed_where_the_baseline_does_not_work() -> None:
    spec = SPEC.model_copy(update={"least": {RECALL: 0.9}})
    cells = results({"none": PLAIN, "gmm": BETTER})
    weak = weaknesses(spec, cells)
    text = write_report(
        spec, cells, differences(spec, cells), weak, title="s", command="mono3d study demo"
    )
    assert "**This study does not count**: none reaches val/matched_depth_recall_50m_up" in text
    assert "not judged, since the baseline does not work" in text
    for claim in ("a gain", "a loss", "| gain |", "| loss |"):
        assert claim not in text


def test_one_seed_shows_nothing() -> None:
    text = report(results({"none": PLAIN[:1], "gmm": BETTER[:1]}))
    assert "in 1 seed, which shows nothing" in text
    assert "a gain" not in text


def test_runs_without_a_result_are_listed() -> None:
    failed = CellResult(variant="ohem", seed=2, identity="i", error="out of memory")
    text = report([*results({"none": PLAIN}), failed])
    assert "- ohem, seed 2: out of memory" in text
    assert "No variant has val/centers_depth_abs_rel in the same seed as none yet." in text


def test_figures_are_shown_and_settings_named() -> None:
    text = report(results({"none": PLAIN, "gmm": BETTER}), figures=["differences.png"])
    assert "![differences.png](differences.png)" in text
    assert "| gmm | GMM. | `mining.kind=gmm` |" in text


def ink(metrics: list[str], folder: Path) -> float:
    """Coloured pixels of a figure, as a share."""
    found = differences(SPEC, results({"none": PLAIN, "gmm": BETTER, "ohem": MIXED}))
    write_png(differences_figure(found, metrics, "title"), folder / "figure.png")
    image = cv2.imread(str(folder / "figure.png"))
    assert image is not None
    return float((np.ptp(image, axis=2) > 40).sum())


def test_a_figure_shows_each_metric_that_is_there(tmp_path: Path) -> None:
    nothing, one, two = (
        ink(metrics, tmp_path) for metrics in (["val/nothing"], [ERROR], [ERROR, RECALL])
    )
    assert nothing < one < two


def test_what_is_compared_of_a_run() -> None:
    metrics = {
        "val/nuscenes_map": 0.1,
        "val/nuscenes_car_ap_dist_0.5": 0.1,
        "val/centers_depth_abs_rel_40_50m": 0.1,
        "val/centers_depth_rmse": 0.1,
        "val/matched_depth_recall_visible_0_40": 0.1,
        "val/matched_depth_recall_0_10m": 0.1,
        "val/east/kitti_Car_3d_moderate": 0.1,
        "val/kitti_Car_3d_moderate_loose": 0.1,
    }
    assert list(compared(metrics)) == [
        "val/nuscenes_map",
        "val/centers_depth_abs_rel_40_50m",
        "val/matched_depth_recall_visible_0_40",
        "val/east/kitti_Car_3d_moderate",
    ]


def test_metrics_of_the_only_set_are_compared_once() -> None:
    metrics = {"val/nuscenes_map": 0.5, "val/seen/nuscenes_map": 0.5, "val/nuscenes_nds": 0.25}
    assert compared(metrics) == {"val/nuscenes_nds": 0.25, "val/seen/nuscenes_map": 0.5}
    both = {**metrics, "val/other/nuscenes_map": 0.5}
    assert compared(both) == both


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("val/nuscenes_map", "mAP"),
        ("val/nuscenes_car_ap", "car AP"),
        ("val/centers_depth_abs_rel", "depth error"),
        ("val/centers_depth_abs_rel_20_30m", "depth error, 20–30 m"),
        ("val/centers_depth_abs_rel_50m_up", "depth error, over 50 m"),
        ("val/centers_depth_abs_rel_traffic_cone", "depth error, traffic cone"),
        ("val/matched_depth_recall_visible_0_40", "recall, 0–40 % visible"),
        ("val/kitti_Car_3d_moderate", "AP R40 %, Car 3d moderate"),
        ("val/nuscenes_bus_ap", "nuscenes_bus_ap"),
        ("val/east/nuscenes_nds", "east: NDS"),
    ],
)
def test_metrics_in_words(metric: str, words: str) -> None:
    assert in_words(metric) == words
