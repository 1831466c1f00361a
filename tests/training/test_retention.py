import math

import pytest

from mono3d.config.training_sections import CheckpointConfig
from mono3d.training.retention import NO_SCORE, Candidate, ranked, score, to_delete


def steps(candidates: list[Candidate]) -> list[int]:
    return sorted(candidate.step for candidate in candidates)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("metrics", [{}, {"m": math.nan}, {"m": math.inf}, {"other": 1.0}])
def test_what_was_not_measured_is_never_the_best(metrics: dict[str, float], mode: str) -> None:
    config = CheckpointConfig(metric="m", mode=mode)
    assert score(metrics, config) == NO_SCORE
    assert score({"m": -1e9}, config) > NO_SCORE
    assert score({"m": 1e9}, config) > NO_SCORE


def test_less_is_better_where_the_mode_says_so() -> None:
    config = CheckpointConfig(metric="m", mode="min")
    assert score({"m": 0.1}, config) > score({"m": 0.2}, config)


def test_unmeasured_ones_never_push_out_the_best() -> None:
    best = Candidate(step=10, score=0.5)
    later = [Candidate(step=step, score=NO_SCORE) for step in (11, 12, 13)]
    assert steps(to_delete([best, *later], keep=1)) == [11, 12]
    assert ranked([*later, best])[0] == best


def test_keeps_the_best_and_the_last() -> None:
    scores = {1: 0.3, 2: 0.9, 3: 0.1, 4: 0.5, 5: 0.2}
    candidates = [Candidate(step=step, score=value) for step, value in scores.items()]
    assert steps(to_delete(candidates, keep=2)) == [1, 3]


def test_of_equals_the_later_is_better() -> None:
    assert ranked([Candidate(step=1, score=0.0), Candidate(step=2, score=0.0)])[0].step == 2


def test_nothing_to_delete_of_nothing() -> None:
    assert to_delete([], keep=2) == []
