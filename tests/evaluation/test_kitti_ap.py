"""KITTI's metric: its rules by hand, and the official program's answers on real frames."""

import json
import math
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mono3d.evaluation.kitti_ap import CLASSES, as_json, evaluate_kitti, min_overlaps
from mono3d.evaluation.kitti_tables import (
    LABEL_COLUMNS,
    RESULT_COLUMNS,
    KittiTable,
    frame_names,
    read_table,
)
from tests.support.kitti_lines import dont_care, label, labels, result, results

KINDS = ("2d", "aos", "bev", "3d")


def score(
    truth: KittiTable, found: KittiTable, classes: Sequence[str] = ("Car",)
) -> dict[str, Any]:
    scores: dict[str, Any] = as_json(evaluate_kitti(truth, found, classes))
    return scores


def car(truth: KittiTable, found: KittiTable) -> dict[str, Any]:
    cars: dict[str, Any] = score(truth, found)["std"]["Car"]
    return cars


def r40(truth: KittiTable, found: KittiTable, kind: str = "3d") -> list[float]:
    points: list[float] = car(truth, found)[kind]["R40"]
    return points


def frames(count: int, *lines: str) -> list[list[str]]:
    return [list(lines)] * count


def test_all_found_is_a_hundred_and_half_found_is_half() -> None:
    truth = labels(*frames(80, label()))
    scores = car(truth, results(*frames(80, result())))
    assert {kind: scores[kind]["R40"] for kind in KINDS} == {k: [100.0] * 3 for k in KINDS}
    assert {kind: scores[kind]["R11"] for kind in KINDS} == {k: [100.0] * 3 for k in KINDS}
    half = car(truth, results(*frames(40, result()), *frames(40)))
    # Forty hits of eighty give recalls up to a half: points 0 to 20 of 40, or 0 to 5 of 10.
    assert half["3d"]["R40"] == [50.0] * 3
    assert half["3d"]["R11"] == pytest.approx([100 * 6 / 11] * 3)


def test_few_objects_never_reach_a_hundred() -> None:
    # Four objects have four scores: points 0 to 3.
    scores = car(labels(*frames(4, label())), results(*frames(4, result())))
    assert scores["3d"]["R40"] == [pytest.approx(100 * 3 / 40)] * 3
    assert scores["3d"]["R11"] == [pytest.approx(100 / 11)] * 3


def test_false_positives_count_at_the_scores_at_which_they_are_said() -> None:
    truth = labels(*frames(80, label()))
    away = {"bottom": (30, 1.5, 20), "rectangle": (500, 100, 600, 200)}
    surer = results(*frames(80, result(0.5), result(0.9, **away)))
    # The scores of the hits tie, so everything is said at each threshold.
    assert r40(truth, surer) == [pytest.approx(50.0)] * 3
    weaker = results(*frames(80, result(0.5), result(0.1, **away)))
    assert r40(truth, weaker) == [100.0] * 3


def test_ranked_scores_give_the_best_precision_from_each_recall_on() -> None:
    # Forty hits above forty misses above forty hits: precision 1 to recall 1/2, then 2/3.
    truth = labels(*frames(80, label()), *frames(40))
    away = {"bottom": (30, 1.5, 20)}
    found = [
        *([result(0.9 - 0.001 * i)] for i in range(40)),
        *([result(0.3 - 0.001 * i)] for i in range(40)),
        *([result(0.6 - 0.001 * i, **away)] for i in range(40)),
    ]
    points = evaluate_kitti(truth, results(*found), ["Car"])["std"]["Car"]["3d"]
    assert points is not None
    moderate = points.points[1]
    assert moderate[:20].tolist() == [1.0] * 20
    assert moderate[40] == pytest.approx(80 / 120)
    assert (moderate[1:] <= moderate[:-1]).all()


@pytest.mark.parametrize(
    ("what", "counted"),
    [
        ({"rectangle": (0, 0, 50, 41)}, (True, True, True)),
        ({"rectangle": (0, 0, 50, 40)}, (False, True, True)),
        ({"rectangle": (0, 0, 50, 25)}, (False, False, False)),
        ({"occluded": 1}, (False, True, True)),
        ({"occluded": 2}, (False, False, True)),
        ({"occluded": 3}, (False, False, False)),
        ({"truncated": 0.15}, (True, True, True)),
        ({"truncated": 0.16}, (False, True, True)),
        ({"truncated": 0.31}, (False, False, True)),
        ({"truncated": 0.51}, (False, False, False)),
    ],
)
def test_which_labels_count(what: dict[str, Any], counted: tuple[bool, ...]) -> None:
    # Half of the labels are plain and found; the others are missed, if they count.
    truth = labels(*frames(80, label(), label(**{"bottom": (30, 1.5, 20), **what})))
    found = results(*frames(80, result()))
    assert r40(truth, found) == [pytest.approx(50.0 if is_in else 100.0) for is_in in counted]


@pytest.mark.parametrize("kind", ["Van", "van", "Car"])
def test_what_is_found_of_a_neighbour_or_an_ignored_one_is_no_mistake(kind: str) -> None:
    other = {"bottom": (30, 1.5, 20), "rectangle": (500.0, 100, 600, 200)}
    ignored = label(kind, occluded=3 if kind == "Car" else 0, **other)
    truth = labels(*frames(80, label(), ignored))
    assert r40(truth, results(*frames(80, result(), result(0.9, **other)))) == [100.0] * 3
    # A truck is no neighbour.
    truck = labels(*frames(80, label(), label("Truck", **other)))
    assert r40(truck, results(*frames(80, result(), result(0.9, **other))))[0] < 60


def test_results_in_dont_care_regions_are_no_mistakes() -> None:
    truth = labels(*frames(80, label(), dont_care((490, 90, 610, 210))))
    inside = result(0.9, rectangle=(500, 100, 600, 200), bottom=(30, 1.5, 20))
    outside = result(0.9, rectangle=(540, 100, 640, 200), bottom=(30, 1.5, 20))
    assert r40(truth, results(*frames(80, result(), inside)), "2d") == [100.0] * 3
    # 70 of its 100 pixels are inside: that does not exceed 0.7.
    assert r40(truth, results(*frames(80, result(), outside)), "2d") == [pytest.approx(50.0)] * 3
    # The region is nowhere in space.
    assert r40(truth, results(*frames(80, result(), inside)), "3d") == [pytest.approx(50.0)] * 3


def test_small_results_of_any_class_are_neutral() -> None:
    away = {"bottom": (30, 1.5, 20)}
    truth = labels(*frames(80, label()))
    small = result(0.9, rectangle=(500, 100, 600, 124), **away)
    assert r40(truth, results(*frames(80, result(), small))) == [100.0] * 3
    # One of 30 px is small for easy objects only.
    middling = result(0.9, rectangle=(500, 100, 600, 130), **away)
    assert r40(truth, results(*frames(80, result(), middling))) == [
        100.0, pytest.approx(50.0), pytest.approx(50.0)
    ]  # fmt: skip


def test_a_small_result_takes_the_label_that_a_weaker_one_hits() -> None:
    truth = labels(*frames(80, label()))
    car_there = result(0.5)
    tall = result(0.9, "Pedestrian", rectangle=(100, 100, 200, 200))
    assert r40(truth, results(*frames(80, tall, car_there))) == [100.0] * 3
    # First the best score takes the label: no car is a hit, so there is no score to begin with.
    small = result(0.9, "Pedestrian", rectangle=(100, 100, 200, 124))
    assert r40(truth, results(*frames(80, small, car_there))) == [0.0] * 3
    # In half of the frames: forty scores, at which the cars of all eighty frames are said and hit,
    # since one that counts goes before a neutral one.
    both = results(*frames(40, small, car_there), *frames(40, car_there))
    assert r40(truth, both) == [50.0] * 3


def test_an_overlap_must_exceed_the_threshold() -> None:
    truth = labels(*frames(80, label(rectangle=(0, 0, 100, 100))))
    exact = results(*frames(80, result(rectangle=(0, 0, 70, 100))))
    assert r40(truth, exact, "2d") == [0.0] * 3
    more = results(*frames(80, result(rectangle=(0, 0, 71, 100))))
    assert r40(truth, more, "2d") == [100.0] * 3


def test_bird_s_eye_view_does_not_look_at_height_and_3d_does() -> None:
    truth = labels(*frames(80, label()))
    raised = results(*frames(80, result(bottom=(0, 1.0, 20))))
    # 1 of 1.5 m is shared: 1 / 2, above 0.5 nowhere.
    assert r40(truth, raised, "bev") == [100.0] * 3
    assert r40(truth, raised, "3d") == [0.0] * 3
    by_class = score(truth, results(*frames(80, result(bottom=(0, 1.1, 20)))))
    assert by_class["std"]["Car"]["3d"]["R40"] == [0.0] * 3
    assert by_class["loose"]["Car"]["3d"]["R40"] == [100.0] * 3


def test_orientation_similarity_by_hand() -> None:
    truth = labels(*frames(80, label(alpha=0.5)))
    turned = results(*frames(80, result(alpha=0.5 + math.pi / 3)))
    assert r40(truth, turned, "aos") == [pytest.approx(75.0)] * 3
    assert r40(truth, turned, "2d") == [100.0] * 3
    unknown = results(*frames(79, result(alpha=0.5)), [result(alpha=-10)])
    assert car(truth, unknown)["aos"] is None
    assert car(truth, unknown)["2d"]["R40"] == [100.0] * 3


def test_duplicates_are_mistakes() -> None:
    truth = labels(*frames(80, label()))
    assert r40(truth, results(*frames(80, result(0.9), result(0.9)))) == [pytest.approx(50.0)] * 3
    # Thresholds are the best candidates' scores, at which weaker ones are not said.
    assert r40(truth, results(*frames(80, result(0.9), result(0.5)))) == [100.0] * 3


@pytest.mark.parametrize("is_first", [True, False])
def test_of_equal_scores_the_best_overlap_is_the_hit(is_first: bool) -> None:
    """Seen by its orientation: the other one faces backwards and is the mistake."""
    truth = labels(*frames(80, label()))
    exact = result(0.9, alpha=0)
    beside = result(0.9, alpha=math.pi, rectangle=(100, 100, 200, 190))
    pair = (exact, beside) if is_first else (beside, exact)
    scores = car(truth, results(*frames(80, *pair)))
    assert scores["2d"]["R40"] == [pytest.approx(50.0)] * 3
    assert scores["aos"]["R40"] == [pytest.approx(50.0)] * 3


def test_what_is_not_evaluated_is_null() -> None:
    nothing = score(labels(*frames(3, label())), results(*frames(3)), CLASSES)
    assert nothing == {s: {c: dict.fromkeys(KINDS) for c in CLASSES} for s in ("std", "loose")}
    flat = {"dims_hwl": (-1, -1, -1), "bottom": (-1000, -1000, -1000)}
    in_image = car(labels(*frames(3, label())), results(*frames(3, result(**flat))))
    assert (in_image["bev"], in_image["3d"]) == (None, None)
    assert in_image["2d"]["R40"][0] > 0
    in_space = car(
        labels(*frames(3, label())), results(*frames(3, result(rectangle=(-1, -1, -1, -1))))
    )
    assert in_space["2d"] is None
    assert in_space["aos"] is None


def test_results_without_objects_to_find_have_zero() -> None:
    assert r40(labels(*frames(3)), results(*frames(3, result()))) == [0.0] * 3
    hidden = labels(*frames(3, label(occluded=3)))
    assert r40(hidden, results(*frames(3, result()))) == [0.0] * 3


def test_boxes_that_lie_on_each_other_turned_or_not() -> None:
    # The last is turned by half a turn and its own copy otherwise.
    for yaw in (0.0, 0.4, math.pi / 2, math.pi):
        truth = labels(*frames(80, label(yaw=yaw % math.pi)))
        assert r40(truth, results(*frames(80, result(yaw=yaw)))) == [100.0] * 3


def test_other_classes_are_measured_when_asked() -> None:
    truth = labels(*frames(80, label("Van"), label("forklift", bottom=(30, 1.5, 20))))
    found = results(
        *frames(80, result(0.5, "van"), result(0.5, "Forklift", bottom=(30, 1.5, 20.7)))
    )
    scores = score(truth, found, ("Van", "Forklift"))
    assert scores["std"]["Van"]["3d"]["R40"] == [100.0] * 3
    assert min_overlaps("std", "Forklift") == (0.5, 0.5, 0.5)
    # 1.3 of 2.7 m: below 0.5, above 0.25.
    assert scores["std"]["Forklift"]["bev"]["R40"] == [0.0] * 3
    assert scores["loose"]["Forklift"]["bev"]["R40"] == [100.0] * 3


def unpacked(packed: Path, into: Path) -> Path:
    """The folder of golden frames in an archive."""
    with tarfile.open(packed) as archive:
        archive.extractall(into / packed.name, filter="data")
    (inner,) = {path.parent for path in (into / packed.name).rglob("*.txt")}
    return inner


@pytest.mark.real_data
@pytest.mark.parametrize(
    "which",
    [
        "edge_2d_only", "edge_all_empty", "edge_neighbour_classes", "edge_one_alpha_minus10",
        "edge_perfect_tied_scores", "edge_thresholds_synthetic", "frustum_fregu_car_valeven",
        "pointgnn_car_valeven", "synth_mono_valeven",
    ],
)  # fmt: skip
def test_equal_to_the_official_program(which: str, real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "kitti_eval_golden"
    golden = json.loads((folder / f"golden_{which}.json").read_text())
    if which.startswith("edge_"):
        truth, found = folder / which / "gt", folder / which / "det"
    else:
        truth = unpacked(folder / "gt_valeven.tar.gz", tmp_path)
        found = unpacked(folder / f"det_{which}.tar.gz", tmp_path)
    names = frame_names(truth, None)
    assert len(names) == golden["frames"]
    scores = score(
        read_table(truth, names, LABEL_COLUMNS), read_table(found, names, RESULT_COLUMNS), CLASSES
    )
    compared = 0
    for strictness, by_class in scores.items():
        wanted = golden["results"][strictness]["ap"]
        for class_name, kinds in by_class.items():
            for kind, value in kinds.items():
                official = wanted.get(class_name, {}).get(kind)
                assert (value is None) == (official is None), (strictness, class_name, kind)
                for points in ("R40", "R11") if value else ():
                    assert value[points] == pytest.approx(official[points], abs=0.01)
                    compared += 1
    assert compared > 0 or which == "edge_all_empty"
