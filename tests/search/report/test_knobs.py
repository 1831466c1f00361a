"""What a search varies, on scales."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mono3d.search.report.knobs import knobs, shared_knobs
from tests.support.search_studies import awkward_studies, mining_study, trial

LOG = FloatDistribution(1e-4, 1e-2, log=True)
WHOLE = IntDistribution(0, 3)


def test_a_number_stands_on_its_scale() -> None:
    scales = {"lr": LOG, "n": WHOLE}
    lr, n = knobs([trial({"lr": 1e-3 * k, "n": k}, 1.0, scales=scales) for k in (1, 3)])
    assert (lr.name, lr.is_log, lr.ends) == ("lr", True, (-4.0, -2.0))
    assert lr.place(1e-3) == pytest.approx(0.5)
    assert lr.ticks() == {0.0: "0.0001", 0.5: "0.001", 1.0: "0.01"}
    assert (n.name, n.is_whole, n.ends) == ("n", True, (0.0, 3.0))
    assert list(n.ticks().values()) == ["0", "1", "2", "3"]


def test_choices_are_told_apart_though_python_calls_them_equal() -> None:
    choices = (None, "null", True, "1", 2.5)
    scale = {"a": CategoricalDistribution(choices)}
    (knob,) = knobs([trial({"a": choice}, 1.0, scales=scale) for choice in choices])
    assert knob.choices is not None
    assert list(knob.choices.values()) == ["None", "'null'", "true", "1", "2.5"]
    assert [knob.coordinate(choice) for choice in choices] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [knob.place(choice) for choice in choices] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_what_is_the_same_in_all_is_no_knob_unless_some_lack_it() -> None:
    alike = [trial({"a": 0.5, "b": n / 4, "c": 0.1}, 1.0) for n in range(3)]
    assert [knob.name for knob in knobs(alike)] == ["b"]
    lacking = [*alike, trial({"a": 0.5, "b": 0.9}, 1.0)]
    assert [knob.name for knob in knobs(lacking)] == ["b", "c"]
    assert [knob.name for knob in shared_knobs(lacking)] == ["b"]
    assert knobs([]) == shared_knobs([]) == []


def test_a_range_that_was_changed_is_as_wide_as_the_widest() -> None:
    wide = {"a": FloatDistribution(-1.0, 5.0)}
    (knob,) = knobs([trial({"a": 0.5}, 1.0), trial({"a": 4.0}, 1.0, scales=wide)])
    assert knob.ends == (-1.0, 5.0)


def test_a_number_that_became_a_choice_is_one() -> None:
    scale = {"a": CategoricalDistribution(["auto", "none"])}
    (knob,) = knobs([trial({"a": 0.5}, 1.0), trial({"a": "auto"}, 1.0, scales=scale)])
    assert knob.choices is not None
    assert list(knob.choices.values()) == ["auto", "none", "0.5"]


@pytest.mark.parametrize("name", awkward_studies())
def test_every_value_of_every_study_has_a_place_and_ticks_are_apart(name: str) -> None:
    trials = awkward_studies()[name].get_trials()
    for knob in knobs(trials):
        values = [trial.params[knob.name] for trial in trials if knob.name in trial.params]
        assert all(-1e-9 <= knob.place(value) <= 1 + 1e-9 for value in values)
        places = list(knob.ticks())
        assert places == sorted(places)
        assert all(0 <= place <= 1 for place in places)


def test_names_stand_in_the_order_in_which_they_were_drawn() -> None:
    names = [knob.name for knob in knobs(mining_study().get_trials())]
    assert names == ["mining.kind", "mining.sharpness", "mining.warmup_epochs", "mining.share"]
