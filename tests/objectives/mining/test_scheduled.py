"""What all strategies with a schedule share: its defaults, and settings that are refused."""

import math
from dataclasses import fields
from typing import Any

import pytest

from mono3d.objectives.mining.easy_topk import EasyTopk
from mono3d.objectives.mining.focal import FocalMining
from mono3d.objectives.mining.ghm import GhmMining
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.mining.ohem import Ohem
from mono3d.objectives.mining.pisa import PisaMining
from mono3d.objectives.mining.range_cut import RangeCut
from mono3d.objectives.mining.scheduled import ScheduledMining
from tests.support.depth_samples import make_samples

ALL: list[type[ScheduledMining]] = [
    GmmMining, Ohem, EasyTopk, FocalMining, GhmMining, PisaMining, RangeCut,
]  # fmt: skip
NAN = float("nan")


@pytest.mark.parametrize("kind", ALL)
def test_all_wait_for_an_epoch_and_ramp_for_one(kind: type[ScheduledMining]) -> None:
    assert [kind().blend(p) for p in (0.0, 0.99, 1.0, 1.25, 2.0, 50.0)] == [0, 0, 0, 0.25, 1, 1]
    assert kind(warmup_epochs=0.0, ramp_epochs=0.0).blend(0.0) == 1


@pytest.mark.parametrize("kind", ALL)
def test_all_say_how_far_they_are_in_and_what_they_left_out(kind: type[ScheduledMining]) -> None:
    samples = make_samples([11.0, NAN, 18.0], [10.0] * 3)
    statistics = kind().weigh(samples, kind().initial_state(), 1.25).statistics
    assert statistics["blend"] == 0.25
    assert statistics["non_finite"] == 1


REFUSED: list[tuple[type[ScheduledMining], str, float]] = [
    (Ohem, "share", 0.0),
    (Ohem, "share", 1.1),
    (EasyTopk, "share", NAN),
    (FocalMining, "gamma", -1.0),
    (FocalMining, "gamma", math.inf),
    (GhmMining, "mu", 0.0),
    (GhmMining, "num_bins", 0),
    (GhmMining, "momentum", 1.0),
    (PisaMining, "power", -0.5),
    (PisaMining, "bias", 1.5),
    (RangeCut, "max_m", 2.0),
    (RangeCut, "min_m", -1.0),
    (RangeCut, "softness_m", math.inf),
    *[(kind, "warmup_epochs", -1.0) for kind in ALL],
    *[(kind, "ramp_epochs", NAN) for kind in ALL],
]


@pytest.mark.parametrize(("kind", "name", "value"), REFUSED)
def test_settings_out_of_range_are_refused(
    kind: type[ScheduledMining], name: str, value: float
) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: {name}={value!r} is out of range"):
        kind(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ALL)
def test_every_setting_has_a_range(kind: type[ScheduledMining]) -> None:
    names: set[Any] = {field.name for field in fields(kind)}
    assert kind().rules().keys() == names
