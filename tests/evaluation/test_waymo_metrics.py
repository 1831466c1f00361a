"""Waymo's metrics, by cases worked out by hand and by Waymo's own result on its example."""

import json
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from mono3d.evaluation.waymo_boxes import (
    TYPES,
    StatedLabels,
    WaymoData,
    WaymoDetections,
    camera_labels,
    standard_labels,
)
from mono3d.evaluation.waymo_format import read_waymo
from mono3d.evaluation.waymo_matching import (
    CUTOFFS,
    FALSE,
    HITS,
    LONGITUDINAL,
    MISSED,
    NUM_COUNTS,
    Pairs,
    count_matches,
    judge_pairs,
)
from mono3d.evaluation.waymo_metrics import (
    BANDS,
    LEVELS,
    PROTOCOLS,
    Score,
    average_precision,
    waymo_metrics,
)

VEHICLE, PEDESTRIAN, SIGN = range(3)
Box = tuple[float, ...]


def box(x: float, y: float = 0.0, z: float = 0.0, heading: float = 0.0) -> Box:
    """A box 4 m long, 2 m wide and 1.5 m high."""
    return (x, y, z, 4.0, 2.0, 1.5, heading)


def stated(
    boxes: Sequence[Box],
    *,
    types: Sequence[int] | None = None,
    num_points: Sequence[int] | None = None,
    levels: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
) -> StatedLabels:
    count = len(boxes)
    points = np.array([100] * count if num_points is None else num_points, dtype=np.int64)
    columns = np.array(boxes, dtype=np.float64).reshape(count, 7)
    return StatedLabels(
        frames=np.array([0] * count if frames is None else frames, dtype=np.int64),
        types=np.array([VEHICLE] * count if types is None else types, dtype=np.int64),
        boxes=columns,
        camera_boxes=columns,
        levels=np.array([0] * count if levels is None else levels, dtype=np.int64),
        num_points=points,
        num_top_points=points,
        is_seen=np.ones(count, dtype=bool),
    )


def detected(
    boxes: Sequence[Box],
    scores: Sequence[float] | None = None,
    *,
    types: Sequence[int] | None = None,
    is_excused: Sequence[bool] | None = None,
    frames: Sequence[int] | None = None,
) -> WaymoDetections:
    count = len(boxes)
    return WaymoDetections(
        frames=np.array([0] * count if frames is None else frames, dtype=np.int64),
        types=np.array([VEHICLE] * count if types is None else types, dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float64).reshape(count, 7),
        scores=np.array([1.0] * count if scores is None else scores, dtype=np.float32),
        is_excused=np.array([False] * count if is_excused is None else is_excused, dtype=bool),
    )


def score_of(
    labels: StatedLabels,
    detections: WaymoDetections,
    table: str = "std",
    *,
    level: int = 2,
    band: str = "all",
    kind: int = VEHICLE,
) -> Score:
    data = WaymoData(
        labels=standard_labels(labels),
        camera_labels=camera_labels(labels),
        detections=detections,
        camera=np.zeros(3),
        levels=(1, 2),
    )
    score = waymo_metrics(data)[table][TYPES[kind]][LEVELS[level - 1]][band]
    assert score is not None
    return score


@pytest.mark.parametrize(
    ("precisions", "recalls", "area"),
    [
        ([], [], 0.0),
        ([1.0], [0.0], 0.0),
        ([0.5], [1.0], 0.5),
        # Below recall 0.5 the precision there holds, whatever it is at 0.
        ([0.25, 1.0], [0.5, 0.0], 0.125),
        # A lower precision at a lower recall does not count.
        ([0.25, 0.5], [0.5, 1.0], 0.5),
        # From 1 to 0.55 at 0.5, one step of 0.05 up to 1, and 1 below.
        ([0.5, 1.0], [1.0, 0.5], 0.45 * 0.5 + 0.05 * 0.75 + 0.5),
        # Steps of at most 0.05 need no point between them.
        ([0.5, 1.0], [0.54, 0.5], 0.04 * 0.75 + 0.5),
    ],
)
def test_area_under_precision_and_recall(
    precisions: list[float], recalls: list[float], area: float
) -> None:
    measured = average_precision(np.array(precisions), np.array(recalls))
    assert measured == pytest.approx(area, abs=1e-12)


def test_a_true_detection_scores_one_in_every_table() -> None:
    for table in PROTOCOLS:
        score = score_of(stated([box(20)]), detected([box(20)]), table)
        apl = 1.0 if table == "let" else None
        assert score == Score(num_labels=1, ap=1.0, aph=1.0, apl=apl)


def test_hits_are_weighted_by_heading() -> None:
    square = (20.0, 0.0, 0.0, 2.0, 2.0, 2.0)
    for turn, aph in [(math.pi / 2, 0.5), (math.pi, 0.0), (-1.5 * math.pi, 0.5), (-math.pi, 0.0)]:
        score = score_of(stated([(*square, 0.0)]), detected([(*square, turn)]))
        assert score.ap == 1
        assert score.aph == pytest.approx(aph)


def test_a_false_detection_costs_if_it_is_better_scored() -> None:
    labels = stated([box(20), box(10)])
    for other, ap in [(0.4, 0.5), (0.95, 0.25)]:
        score = score_of(labels, detected([box(20), box(60)], [0.9, other]))
        assert score.ap == pytest.approx(ap)


def test_scores_are_read_in_steps_of_a_hundredth() -> None:
    labels = stated([box(20)])
    for true, false, ap in [
        (0.5, 0.5, 0.5),
        (0.509, 0.501, 0.5),
        (0.51, 0.501, 1.0),
        (0.003, 0.009, 0.5),
        # A cut-off is met by its own value, in the single precision of Waymo's files.
        (0.07, 0.069, 1.0),
    ]:
        score = score_of(labels, detected([box(20), box(60)], [true, false]))
        assert score.ap == pytest.approx(ap), (true, false)


def test_levels_come_from_points_unless_an_annotator_gave_one() -> None:
    labels = standard_labels(
        stated(
            [box(20)] * 6,
            num_points=[6, 5, 1, 0, 100, 2],
            levels=[0, 0, 0, 2, 2, 1],
        )
    )
    assert labels.levels.tolist() == [1, 2, 2, 2, 1]


def test_only_labels_that_a_camera_and_the_top_lidar_see_count_for_cameras() -> None:
    labels = stated([box(10), box(20), box(30)])
    seen = StatedLabels(
        **{
            **vars(labels),
            "is_seen": np.array([True, False, True]),
            "num_top_points": np.array([4, 100, 0]),
            "camera_boxes": labels.boxes + 1,
        }
    )
    assert camera_labels(seen).boxes[:, 0].tolist() == [11]
    assert camera_labels(seen).levels.tolist() == [2]
    assert standard_labels(seen).boxes[:, 0].tolist() == [10, 20, 30]


def test_level_2_counts_misses_of_hard_labels_and_level_1_does_not() -> None:
    labels = stated([box(10), box(20), box(25)], num_points=[6, 5, 0])
    easy, hard = detected([box(10)]), detected([box(20)])
    assert score_of(labels, easy, level=1) == Score(num_labels=1, ap=1.0, aph=1.0, apl=None)
    assert score_of(labels, easy, level=2).ap == pytest.approx(0.5)
    assert score_of(labels, easy, level=2).num_labels == 2
    # A hit of a hard label is one at level 1 too.
    assert score_of(labels, hard, level=1).ap == pytest.approx(0.5)


def test_what_finds_a_label_without_points_is_false() -> None:
    labels = stated([box(10), box(20)], num_points=[10, 0])
    score = score_of(labels, detected([box(10), box(20)]))
    assert score.ap == pytest.approx(0.5)
    assert score.num_labels == 1


def test_bands_are_of_distance_and_each_on_its_own() -> None:
    labels = stated([box(10), box(30), box(40, z=30), box(80)])
    detections = detected([box(10), box(29.9), box(40, z=30), box(80)])
    assert score_of(labels, detections).ap == 1
    # The detection at 29.9 m overlaps with the label at 30 m, but is in the band before.
    expected = {"[0, 30)": (1, 0.5), "[30, 50)": (1, 0.0), "[50, +inf)": (2, 1.0)}
    for band, (num_labels, ap) in expected.items():
        score = score_of(labels, detections, band=band)
        assert (score.num_labels, score.ap) == (num_labels, pytest.approx(ap)), band


def test_overlap_has_to_reach_the_threshold_of_type_and_table() -> None:
    # Moved by a quarter of its length a box shares 3/5 with what it was; by a ninth, 8/10.
    for shift, kind, table, ap in [
        (4 / 9, VEHICLE, "std", 1),
        (1.0, VEHICLE, "std", 0),
        (1.0, VEHICLE, "std_iou_0.5", 1),
        (1.0, PEDESTRIAN, "std", 1),
        (1.9, PEDESTRIAN, "std", 0),
        (1.9, PEDESTRIAN, "std_iou_0.5", 0),
    ]:
        labels = stated([box(20)], types=[kind])
        detections = detected([box(20 + shift)], types=[kind])
        assert score_of(labels, detections, table, kind=kind).ap == ap, (shift, kind, table)


def test_height_counts_in_overlap() -> None:
    labels = stated([box(20)])
    assert score_of(labels, detected([box(20, z=0.2)])).ap == 1  # 1.3 / 1.7
    assert score_of(labels, detected([box(20, z=0.3)])).ap == 0  # 1.2 / 1.8
    assert score_of(labels, detected([box(20, z=9)])).ap == 0


def test_boxes_without_extent_find_nothing() -> None:
    flat = (20.0, 0.0, 0.0, 4.0, 2.0, 0.01, 0.0)
    assert score_of(stated([flat]), detected([flat])).ap == 0


def test_another_type_and_another_frame_do_not_match() -> None:
    labels = stated([box(20)])
    assert score_of(labels, detected([box(20)], types=[SIGN])).ap == 0
    assert score_of(labels, detected([box(20)], types=[SIGN]), kind=SIGN).ap == 0
    assert score_of(labels, detected([box(20)], frames=[1])).ap == 0


def test_frames_are_counted_together() -> None:
    labels = stated([box(20), box(20)], frames=[0, 3])
    detections = detected([box(20), box(60), box(20)], [0.5, 0.9, 0.2], frames=[3, 7, 0])
    # From 0.5 one of two with one false, from 0.2 both with one false.
    score = score_of(labels, detections)
    assert score.ap == pytest.approx(2 / 3)
    assert score.num_labels == 2


def test_a_detection_in_a_zone_without_labels_is_never_false() -> None:
    labels = stated([box(20)])
    boxes, scores = [box(20), box(60)], [0.5, 0.9]
    assert score_of(labels, detected(boxes, scores, is_excused=[False, True])).ap == 1
    assert score_of(labels, detected(boxes, scores, is_excused=[True, True])).ap == 1


def test_nothing_to_find_and_nothing_found_score_zero() -> None:
    zero = Score(num_labels=0, ap=0.0, aph=0.0, apl=None)
    assert score_of(stated([]), detected([])) == zero
    assert score_of(stated([]), detected([box(20)])) == zero
    score = score_of(stated([box(20)]), detected([]), "let")
    assert score == Score(num_labels=1, ap=0.0, aph=0.0, apl=0.0)


@pytest.mark.parametrize(
    ("distance", "found_at", "longitudinal"),
    [
        (40, 40, 1.0),
        # A tenth of 40 m is forgiven.
        (40, 42, 0.5),
        (40, 39, 0.75),
        (40, 44, 0.0),
        (40, 36, 0.0),
        # Half a metre is forgiven near the camera.
        (3, 3.25, 0.5),
        (3, 3.5, 0.0),
    ],
)
def test_longitudinal_errors_are_forgiven_up_to_the_tolerance(
    distance: float, found_at: float, longitudinal: float
) -> None:
    labels, detections = stated([box(distance)]), detected([box(found_at)])
    score = score_of(labels, detections, "let")
    ap = float(longitudinal > 0)
    assert (score.ap, score.aph) == (ap, ap)
    assert score.apl == pytest.approx(longitudinal)


def test_bands_of_tolerant_metrics_are_of_boxes_as_they_are() -> None:
    labels, detections = stated([box(49)]), detected([box(51)])
    assert score_of(labels, detections, "let").ap == 1
    assert score_of(labels, detections, "let", band="[30, 50)").ap == 0


def test_errors_across_the_ray_are_not_forgiven() -> None:
    # Moved to the nearest point of its ray, the detection is still nearly 1 m aside: 1/3 at most.
    labels, detections = stated([box(40)]), detected([box(42, y=1.05)])
    assert score_of(labels, detections, "let").ap == 0
    assert score_of(labels, detected([box(42, y=0.42)]), "let").ap == 1


def test_error_and_movement_start_at_the_camera() -> None:
    camera = np.array([1.0, 0.0, 3.0])
    # Seen from the camera: the label straight ahead at 10 m, the detection at (12, 0, 1.2).
    labelled = np.array([box(11, z=3)])
    pairs = judge_pairs(np.array([box(13, z=4.2)]), labelled, 0.1, camera)
    assert pairs.longitudinal == 0
    pairs = judge_pairs(np.array([box(11.6, z=3.53)]), labelled, 0.1, camera)
    # 10.6 m along the label's ray, of 1 m forgiven.
    assert pairs.longitudinal == pytest.approx(0.4)
    # Along its own ray it comes to 10.6 * 10 / (10.6² + 0.53²) = 0.94104 of its place.
    factor = 106 / (10.6**2 + 0.53**2)
    height, length = 1.5 - 0.53 * factor, 4 - abs(10.6 * factor - 10)
    iou = height * length / (2 * 1.5 * 4 - height * length)
    assert pairs.worth == pytest.approx(1e6 * 0.4 * iou, abs=1)


def test_the_matching_has_the_most_overlap_in_all() -> None:
    # The better scored detection overlaps most with the first label, 4/5, but 2/3 with the second.
    worth = np.array([[0.8, 0.67], [0.75, 0.0]])
    counts = np.zeros((len(CUTOFFS), NUM_COUNTS))
    both = np.arange(2)
    pairs = Pairs(worth=worth, heading=worth, longitudinal=worth)
    levels, excused = np.array([1, 2]), np.zeros(2, dtype=bool)
    count_matches(pairs, both, both, np.float32([0.9, 0.3]), excused, levels, counts)
    alone, together, nobody = counts[60], counts[10], counts[95]
    assert alone.tolist() == [1, 0.8, 0.8, 0, 0, 1]
    assert together.tolist() == [2, 0.67 + 0.75, 0.67 + 0.75, 0, 0, 0]
    assert nobody.tolist() == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_every_matching_has_as_much_worth_as_scipy_finds(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count, num_labels = generator.integers(1, 13, size=2)
    worth = generator.integers(1, 1000, size=(count, num_labels)).astype(float)
    worth[generator.random(worth.shape) < generator.random()] = 0
    scores = np.sort(generator.random(count).astype(np.float32))[::-1].copy()
    levels = generator.integers(1, 3, size=num_labels)
    counts = np.zeros((len(CUTOFFS), NUM_COUNTS))
    pairs = Pairs(worth=worth, heading=worth, longitudinal=worth)
    rows, columns = np.arange(count), np.arange(num_labels)
    count_matches(pairs, rows, columns, scores, np.zeros(count, dtype=bool), levels, counts)
    for cutoff, counted in zip(CUTOFFS, counts, strict=True):
        kept = worth[scores >= cutoff]
        best = linear_sum_assignment(kept, maximize=True)
        assert counted[LONGITUDINAL] == kept[best].sum()
        assert counted[HITS] + counted[FALSE] == len(kept)
        assert counted[HITS] + counted[MISSED + 1] == num_labels


SHORT_NAMES = {"mAP": "ap", "mAPH": "aph", "LET-mAP": "ap", "LET-mAPH": "aph", "LET-mAPL": "apl"}
Row = tuple[str, str, str, str]
NOT_CHECKED: set[Row] = {
    # The golden file has no other overlaps than Waymo's own, and its LET tool only level 2. (Its
    # rows of single cameras, in turn, are none of ours.)
    *product(["std_iou_0.5"], TYPES, LEVELS, BANDS),
    *product(["let"], TYPES, ["LEVEL_1"], BANDS),
}


def golden_row(table: str, name: str) -> Row:
    """Table, type, level and band of a row such as RANGE_TYPE_VEHICLE_[0, 30)_LEVEL_1."""
    head, level = name.rsplit("_LEVEL_", 1)
    kind, _, band = head.removeprefix("OBJECT_TYPE_").removeprefix("RANGE_")[5:].partition("_")
    return table, kind, f"LEVEL_{level}", band or "all"


@pytest.mark.real_data
def test_waymo_s_own_numbers_are_reproduced(real_data: Path) -> None:
    folder = real_data / "waymo" / "metrics"
    golden = json.loads((folder / "golden_fake.json").read_text())["measured_with_pip_op"]
    data = read_waymo(folder / "fake_ground_truths.bin", folder / "fake_predictions.bin")
    tables = waymo_metrics(data)
    checked = set()
    for table, rows in golden.items():
        for name, expected in rows.items():
            row = golden_row(table, name)
            score = tables[table][row[1]][row[2]][row[3]]
            for quantity, value in expected.items():
                measured = getattr(score, SHORT_NAMES[quantity])
                assert measured == pytest.approx(value, abs=1e-4), (name, quantity)
            checked.add(row)
    assert set(product(tables, TYPES, LEVELS, BANDS)) - checked == NOT_CHECKED
