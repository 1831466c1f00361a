"""Paired differences: intervals against SciPy's own tests, and what is called a gain."""

import pytest
from scipy import stats

from mono3d.comparison.paired import Difference, compare, declared_of, holm
from mono3d.comparison.study_metrics import less_is_better

ERROR, PRECISION = "val/centers_depth_abs_rel", "val/nuscenes_map"


def runs(metric: str, values: list[float], **others: list[float]) -> dict[int, dict[str, float]]:
    return {
        seed: {metric: value, **{name: column[seed] for name, column in others.items()}}
        for seed, value in enumerate(values)
    }


def one(baseline: list[float], values: list[float], metric: str = ERROR) -> Difference:
    (row,) = compare(
        "gmm",
        runs(metric, values),
        runs(metric, baseline),
        declared=metric,
        less_is_better=less_is_better,
    )
    return row


def test_interval_and_p_are_those_of_a_paired_t_test() -> None:
    before, after = [0.12, 0.15, 0.11, 0.14, 0.13], [0.11, 0.13, 0.115, 0.12, 0.125]
    row = one(before, after)
    expected = stats.ttest_rel(after, before)
    interval = expected.confidence_interval(0.95)
    assert row.p == pytest.approx(expected.pvalue)
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
    assert (row.baseline, row.value) == pytest.approx((0.13, 0.12))


def test_a_difference_whose_interval_holds_zero_is_open() -> None:
    row = one([0.12, 0.15, 0.11, 0.14, 0.13], [0.10, 0.16, 0.10, 0.15, 0.11])
    assert row.low < 0 < row.high
    assert row.verdict == "open"


@pytest.mark.parametrize(
    ("metric", "change", "verdict"),
    [(ERROR, -1, "gain"), (ERROR, 1, "loss"), (PRECISION, 1, "gain"), (PRECISION, -1, "loss")],
)
def test_a_gain_goes_the_metric_s_way(metric: str, change: int, verdict: str) -> None:
    before = [0.30, 0.32, 0.31, 0.33, 0.30]
    after = [b + change * d for b, d in zip(before, [0.05, 0.06, 0.055, 0.05, 0.06], strict=True)]
    assert one(before, after, metric).verdict == verdict


def test_pairs_are_seeds_that_both_have() -> None:
    (row,) = compare(
        "gmm",
        {1: {ERROR: 0.2}, 2: {ERROR: 0.3}, 7: {ERROR: 9.0}},
        {0: {ERROR: 9.0}, 1: {ERROR: 0.25}, 2: {ERROR: 0.36}},
        declared=ERROR,
        less_is_better=less_is_better,
    )
    assert row.seeds == [1, 2]
    assert row.differences == pytest.approx([-0.05, -0.06])


def test_one_seed_shows_nothing() -> None:
    row = one([0.2], [0.1])
    assert (row.half_width, row.p, row.verdict) == (None, None, "open")
    assert row.low == -float("inf")


def test_without_common_seeds_there_is_nothing() -> None:
    left, right = {0: {ERROR: 0.1}}, {1: {ERROR: 0.1}}
    assert compare("gmm", left, right, declared=ERROR, less_is_better=less_is_better) == []


@pytest.mark.parametrize("after", [[0.2, 0.3, 0.7], [0.1, 0.2, 0.6], [0.2625, 0.3625, 0.7625]])
def test_seeds_that_all_differ_by_the_same_show_nothing(after: list[float]) -> None:
    """A recall of few objects moves in steps: two equal ones come by chance."""
    row = one([0.2, 0.3, 0.7], after, PRECISION)
    assert (row.p, row.verdict) == (None, "open")


def test_each_metric_is_paired_over_the_seeds_that_have_it() -> None:
    before = {s: {ERROR: 0.2 + 0.01 * s, PRECISION: 0.3} for s in range(4)}
    after = {s: {ERROR: 0.1 + 0.02 * s, PRECISION: 0.4 + 0.01 * s} for s in range(4)}
    del after[0][ERROR], before[3][PRECISION]
    rows = compare("gmm", after, before, declared=ERROR, less_is_better=less_is_better)
    assert {row.metric: row.seeds for row in rows} == {ERROR: [1, 2, 3], PRECISION: [0, 1, 2]}
    declared = declared_of(rows)
    assert declared is not None
    assert declared.metric == ERROR


def test_another_metric_does_not_stand_in_for_the_declared_one() -> None:
    rows = compare(
        "gmm",
        runs(PRECISION, [0.4, 0.5]),
        runs(PRECISION, [0.3, 0.3]),
        declared=ERROR,
        less_is_better=less_is_better,
    )
    assert [row.metric for row in rows] == [PRECISION]
    assert declared_of(rows) is None


def test_holm_steps_down_and_never_falls() -> None:
    # 3 · 0.01, 2 · 0.02, then 0.03 lifted to what came before it.
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, None, 0.8]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_only_the_declared_metric_is_judged_without_correction() -> None:
    before = [0.30, 0.32, 0.31, 0.33, 0.30]
    steps = [0.010, 0.030, 0.015, 0.035, 0.020]  # p = 0.009
    after = [b - s for b, s in zip(before, steps, strict=True)]
    names = [f"val/centers_depth_abs_rel_class{k}" for k in range(9)]
    others = dict.fromkeys(names, before)
    noise = {
        name: [b + 0.01 * ((k * 7 + i * 5) % 11 - 5) for i, b in enumerate(before)]
        for k, name in enumerate(names)
    }
    rows = compare(
        "gmm",
        runs(ERROR, after, **{"val/dense_depth_abs_rel": after}, **noise),
        runs(ERROR, before, **{"val/dense_depth_abs_rel": before}, **others),
        declared=ERROR,
        less_is_better=less_is_better,
    )
    assert rows[0].metric == ERROR
    assert rows[0].verdict == "gain"
    (same,) = (row for row in rows if row.metric == "val/dense_depth_abs_rel")
    assert same.p == rows[0].p
    assert same.corrected_p is not None
    assert same.corrected_p > 0.05
    assert same.verdict == "open"


@pytest.mark.parametrize(
    ("metric", "is_less"),
    [
        ("val/centers_depth_abs_rel_20_30m", True),
        ("val/nuscenes_mate", True),
        ("val/matched_depth_recall_50m_up", False),
        ("val/nuscenes_nds", False),
        ("val/kitti_Car_3d_moderate", False),
        ("val/east/dense_depth_abs_rel", True),
        ("val/centers_depth_abs_rel_phase_change", True),
        ("val/kitti_Case_3d_moderate", False),
    ],
)
def test_errors_are_better_the_less(metric: str, is_less: bool) -> None:
    assert less_is_better(metric) is is_less
