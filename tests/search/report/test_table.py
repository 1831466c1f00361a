"""Trials as rows: who is before whom, and what a row says."""

import math

import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from mono3d.search.report.table import (
    Goal,
    default_of,
    format_duration,
    format_setting,
    format_value,
    goals_of,
    ranked,
    table_cells,
    table_head,
)
from tests.support.search_studies import ACCURACY, ERROR, mining_study, study_of, trial


def test_results_come_first_then_what_was_stopped_then_what_failed() -> None:
    study = study_of(
        [
            trial({"a": 0.1}, state=TrialState.FAIL, reason="no memory"),
            trial({"a": 0.2}, state=TrialState.RUNNING),
            trial({"a": 0.3}, state=TrialState.PRUNED, reported={1: 0.5, 2: 0.9}),
            trial({"a": 0.4}, 3.0),
            trial({"a": 0.5}, state=TrialState.PRUNED, reported={1: 0.6, 2: 0.8}),
            trial({"a": 0.6}, 1.0, imported="search before, trial 3"),
            trial({"a": 0.7}, state=TrialState.PRUNED, reported={1: math.nan}),
            trial({"a": 0.8}, 2.0),
        ]
    )
    study.enqueue_trial({"a": 0.9})
    rows = ranked(study)
    assert [row.number for row in rows] == [5, 7, 3, 4, 2, 6, 0, 1, 8]
    assert [row.rank for row in rows] == [1, 2, 3] + [None] * 6
    assert [row.state for row in rows] == [
        "imported", "finished", "finished", "stopped early", "stopped early", "stopped early",
        "failed", "running", "waiting",
    ]  # fmt: skip
    assert rows[0].reason == "from search before, trial 3"
    assert rows[6].reason == "no memory"
    assert rows[3].values == (0.8,)
    assert rows[3].epochs == 2


def test_more_is_better_where_the_study_says_so() -> None:
    study = study_of([trial({}, 1.0), trial({}, 3.0)], modes=["maximize"], metrics=[ACCURACY])
    assert [row.number for row in ranked(study)] == [1, 0]
    assert goals_of(study) == (Goal(ACCURACY, less_is_better=False),)
    assert table_head(goals_of(study))[3] == "mAP ↑"


def test_equal_values_share_a_rank() -> None:
    rows = ranked(study_of([trial({}, value) for value in (2.0, 1.0, 2.0, 3.0)]))
    assert [(row.number, row.rank) for row in rows] == [(1, 1), (0, 2), (2, 2), (3, 4)]


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_what_is_not_finite_is_finished_but_has_no_rank(value: float) -> None:
    rows = ranked(study_of([trial({}, value), trial({}, 5.0)]))
    assert [(row.number, row.rank, row.state) for row in rows] == [
        (1, 1, "finished"),
        (0, None, "finished"),
    ]
    assert [row.is_usable for row in rows] == [True, False]


def test_trials_that_none_beats_come_first_with_several_objectives() -> None:
    values = [(2.0, 5.0), (1.0, 1.0), (2.0, 4.0), (3.0, 9.0), (-math.inf, 9.9), (1.0, 1.0)]
    study = study_of([trial({}, *pair) for pair in values], modes=["minimize", "maximize"])
    rows = ranked(study)
    assert [row.number for row in rows if row.rank == 1] == [1, 5, 0, 3]
    assert [row.number for row in rows] == [1, 5, 0, 3, 2, 4]
    cells = [table_cells(row, goals_of(study))[0] for row in rows]
    assert cells == ["Pareto"] * 4 + ["", ""]
    assert [goal.metric for goal in goals_of(study)] == ["objective 1", "objective 2"]


def test_spread_is_the_sample_deviation_over_seeds() -> None:
    rows = ranked(
        study_of(
            [
                trial({}, 2.0, repeats=[[1.0], [2.0], [3.0]]),
                trial({}, 3.0),
                trial({}, 4.0, repeats=[[4.0], [math.nan]]),
            ]
        )
    )
    assert rows[0].spread == (1.0,)
    assert [row.spread for row in rows[1:]] == [None, None]
    assert table_cells(rows[0], (Goal(ERROR, less_is_better=True),))[3] == (
        "2.0000 ± 1.0000 (3 seeds)"
    )


def test_a_row_has_what_differs_from_the_recipe() -> None:
    rows = {row.number: row for row in ranked(mining_study())}
    assert default_of(rows.values()) is rows[0]
    assert rows[0].changed == ()
    assert rows[5].changed == ("mining.kind=none",)
    goals = goals_of(mining_study())
    assert "the recipe's own" in table_cells(rows[0], goals)
    assert all(len(table_cells(row, goals)) == len(table_head(goals)) for row in rows.values())
    assert table_cells(rows[26], goals)[3] == "(0.2000)"
    assert rows[3].checkpoint == "s3://bucket/s-0003"


def test_all_settings_are_changed_where_the_recipe_was_not_tried() -> None:
    (row,) = ranked(study_of([trial({"a": 0.5, "b": 0.123456}, 1.0)]))
    assert row.changed == ("a=0.5", "b=0.1235")
    assert default_of([row]) is None


def test_true_is_not_one() -> None:
    """As settings of a recipe they differ, though Python says they are equal."""
    scales = {"a": CategoricalDistribution([True, False])}
    whole = {"a": IntDistribution(0, 1)}
    rows = ranked(
        study_of(
            [
                trial({"a": True}, 1.0, scales=scales, is_default=True),
                trial({"a": 1}, 2.0, scales=whole),
            ]
        )
    )
    assert rows[1].changed == ("a=1",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (0.000123456, "0.0001235"),
        ("gmm", "gmm"),
    ],
)
def test_settings_are_written_as_overrides(value: object, text: str) -> None:
    assert format_setting(value) == text


def test_numbers_and_times_are_written_for_readers() -> None:
    assert list(map(format_value, (0.0, 0.12345, 12345.6, 1e-7, math.inf))) == [
        "0.0000", "0.1235", "1.235e+04", "1e-07", "inf",
    ]  # fmt: skip
    assert list(map(format_duration, (None, math.nan, 41.4, 200.0, 7500.0))) == [
        "–", "–", "41 s", "3 min 20 s", "2 h 05 min",
    ]  # fmt: skip
