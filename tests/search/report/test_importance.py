"""Importances: what they find where there is something, and that they are silent where not."""

import logging

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from mono3d.search.report.importance import MIN_TRIALS, importances
from tests.support.search_studies import awkward_studies, mining_study, study_of, trial


def value(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def test_the_setting_that_matters_is_found_and_the_same_each_time() -> None:
    draw = np.random.default_rng(0)
    points = draw.random((40, 3))
    trials = [trial(dict(zip("abc", p.tolist(), strict=True)), 3.0 * p[1] ** 2) for p in points]
    (group,) = importances(study_of(trials).get_trials(), value).groups
    assert next(iter(group.shares)) == "b"
    assert group.shares["b"] > 0.8
    assert (group.branch, group.num_trials) == ("", 40)
    assert group.foretold > 0.7
    assert not group.is_noise
    assert importances(study_of(trials).get_trials(), value).groups == (group,)


def test_noise_is_called_noise() -> None:
    draw = np.random.default_rng(0)
    called = []
    for _ in range(5):
        trials = [trial({"a": x, "b": y}, z) for x, y, z in draw.random((20, 3)).tolist()]
        (group,) = importances(study_of(trials).get_trials(), value).groups
        called.append(group.is_noise)
    assert sum(called) >= 4


def test_settings_of_a_branch_are_judged_among_the_trials_that_have_them() -> None:
    """Optuna's own fANOVA leaves them out."""
    report = importances(mining_study().get_trials(), value)
    everywhere, gmm = report.groups
    assert list(everywhere.shares) == ["mining.kind"]
    assert everywhere.num_trials == 26
    assert gmm.branch == "mining.kind=gmm"
    assert gmm.num_trials == 13
    assert next(iter(gmm.shares)) == "mining.sharpness"
    assert set(gmm.shares) == {"mining.sharpness", "mining.warmup_epochs"}
    assert report.left_out == {"mining.kind=ohem": f"6 finished, {MIN_TRIALS} needed"}


def test_a_branch_within_a_branch_is_found_by_the_choice_that_makes_it() -> None:
    scales = {
        "x.kind": CategoricalDistribution(["a", "b"]),
        "x.mode": CategoricalDistribution(["p", "q"]),
        "flip": CategoricalDistribution([True, False]),
    }
    draw = np.random.default_rng(2)
    trials = []
    for place in range(64):
        params: dict[str, object] = {"flip": place % 2 == 0, "x.kind": "ab"[place // 2 % 2]}
        if params["x.kind"] == "b":
            params |= {"x.mode": "pq"[place // 4 % 2], "x.b": float(draw.random())}
            if params["x.mode"] == "q":
                params["x.q"] = float(draw.random())
        trials.append(trial(params, float(params.get("x.q", 0.5)), scales=scales))
    branches = [group.branch for group in importances(study_of(trials).get_trials(), value).groups]
    assert branches == ["", "x.kind=b", "x.kind=b x.mode=q"]


def test_a_range_searched_by_logarithms_is_measured_by_them() -> None:
    """Nearly all the action is below a hundredth, which is a hundredth of the plain range."""
    draw = np.random.default_rng(3)
    scales = {"lr": FloatDistribution(1e-5, 1.0, log=True)}
    trials = [
        trial({"lr": 10**-e, "b": b}, min(e, 2.5) + 0.3 * b, scales=scales)
        for e, b in zip((5 * draw.random(60)).tolist(), draw.random(60).tolist(), strict=True)
    ]
    (group,) = importances(study_of(trials).get_trials(), value).groups
    assert group.shares["lr"] > 0.8


def test_only_finished_trials_count() -> None:
    trials = [trial({"a": n / 12}, float(n)) for n in range(MIN_TRIALS - 1)]
    trials += [trial({"a": 0.5}, state=TrialState.PRUNED, reported={1: 0.5}) for _ in range(9)]
    trials += [trial({"a": 0.5}, float("inf")) for _ in range(9)]
    report = importances(study_of(trials).get_trials(), value)
    assert report.groups == ()
    assert report.left_out == {"": f"{MIN_TRIALS - 1} finished, {MIN_TRIALS} needed"}


@pytest.mark.parametrize("name", awkward_studies())
def test_awkward_studies_get_importances_or_a_reason(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    trials = awkward_studies()[name].get_trials()
    with caplog.at_level(logging.INFO, "optuna"):
        caplog.clear()
        report = importances(trials, value)
    assert not caplog.records
    assert report.groups or report.left_out
    for group in report.groups:
        assert sum(group.shares.values()) <= 1 + 1e-6
        assert all(np.isfinite(list(group.shares.values())))
        assert 0 <= group.foretold <= 1
