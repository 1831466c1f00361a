"""Mining by config: each kind, its defaults, what it builds, and what is refused."""

from typing import Any

import pytest

from mono3d.config.load import apply_overrides, parse
from mono3d.config.mining_sections import MiningConfig
from mono3d.errors import ConfigError
from mono3d.objectives.mining.easy_topk import EasyTopk
from mono3d.objectives.mining.focal import FocalMining
from mono3d.objectives.mining.ghm import GhmMining
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.mining.ohem import Ohem
from mono3d.objectives.mining.pisa import PisaMining
from mono3d.objectives.mining.range_cut import RangeCut
from mono3d.objectives.mining.uniform import Uniform
from mono3d.objectives.selection import Selection
from mono3d.training.objective_assembly import build_mining, build_selection
from tests.support.mining import MINING_KINDS

BUILT: dict[str, Any] = {
    "gmm": GmmMining,
    "ohem": Ohem,
    "easy_topk": EasyTopk,
    "focal": FocalMining,
    "ghm": GhmMining,
    "pisa": PisaMining,
    "range_cut": RangeCut,
}


def configured(**keys: object) -> MiningConfig:
    dotted = ((f"mining.{name}", value) for name, value in keys.items())
    return parse(apply_overrides({"data": {"root": "folder"}}, dotted), source="test").mining


def test_the_kinds_are_those_that_tests_go_through() -> None:
    with pytest.raises(ConfigError) as caught:
        configured(kind="magic")
    quoted = ", ".join(f"'{kind}'" for kind in MINING_KINDS)
    assert f"mining.kind=magic: must be one of {quoted}" in str(caught.value)


@pytest.mark.parametrize("kind", BUILT)
def test_each_kind_is_built_and_has_the_strategys_defaults(kind: str) -> None:
    assert build_mining(configured(kind=kind)) == BUILT[kind]()
    assert build_selection(configured(kind=kind)) is None
    scheduled = configured(kind=kind, warmup_epochs=0.5, ramp_epochs=2)
    assert build_mining(scheduled) == BUILT[kind](warmup_epochs=0.5, ramp_epochs=2.0)


def test_without_a_choice_there_is_no_mining() -> None:
    assert isinstance(build_mining(configured()), Uniform)
    assert build_selection(configured()) is None


def test_selection_is_no_strategy() -> None:
    config = configured(kind="lss", temperature=0.5, warmup_epochs=3)
    assert isinstance(build_mining(config), Uniform)
    assert build_selection(config) == Selection(temperature=0.5, warmup_epochs=3.0)
    assert build_selection(configured(kind="lss")) == Selection()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "ohem", "share": 0}, "mining.share=0: .*greater than 0"),
        ({"kind": "easy_topk", "share": 1.5}, "mining.share=1.5: .*less than or equal to 1"),
        ({"kind": "focal", "gamma": -1}, "mining.gamma=-1: .*greater than or equal to 0"),
        ({"kind": "ghm", "num_bins": 0}, "mining.num_bins=0: .*greater than or equal to 1"),
        ({"kind": "ghm", "momentum": 1}, "mining.momentum=1: .*less than 1"),
        ({"kind": "pisa", "bias": 2}, "mining.bias=2: .*less than or equal to 1"),
        ({"kind": "range_cut", "max_m": 2}, "mining: max_m=2: must be above min_m=2"),
        ({"kind": "lss", "temperature": 0}, "mining.temperature=0: .*greater than 0"),
        ({"kind": "lss", "share": 0.5}, "unknown key mining.share where mining.kind=lss"),
        ({"kind": "ohem", "shaer": 0.5}, "unknown key mining.shaer; did you mean mining.share"),
        ({"share": 0.5}, "mining.share where mining.kind=none"),
    ],
)
def test_what_is_wrong_is_named(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(**keys)
