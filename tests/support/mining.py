"""Every mining strategy, for tests that hold for all of them."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from mono3d.objectives.mining.easy_topk import EasyTopk
from mono3d.objectives.mining.focal import FocalMining
from mono3d.objectives.mining.ghm import GhmMining
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.mining.ohem import Ohem
from mono3d.objectives.mining.pisa import PisaMining
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.mining.range_cut import RangeCut
from mono3d.objectives.mining.scheduled import ScheduledMining
from mono3d.objectives.mining.uniform import Uniform
from mono3d.structures import DepthSamples

Scheduled = TypeVar("Scheduled", bound=ScheduledMining)

MINING_KINDS = ("none", "gmm", "ohem", "easy_topk", "focal", "ghm", "pisa", "range_cut", "lss")
"""Of `mining.kind`."""

STRATEGIES: Mapping[str, Callable[[], Mining]] = {
    "none": Uniform,
    "gmm": GmmMining,
    "gmm_ratio": lambda: GmmMining(metric="ratio", gradient_exponent=0.0),
    "gmm_exp_abs": lambda: GmmMining(metric="exp_abs", typical_error=2.0),
    "gmm_linear": lambda: GmmMining(metric="linear", floor=0.0),
    "gmm_per_object": lambda: GmmMining(keep_per_object=0.5, floor=1.0),
    "ohem": Ohem,
    "easy_topk": EasyTopk,
    "focal": FocalMining,
    "focal_sharp": lambda: FocalMining(gamma=0.5),
    "ghm": GhmMining,
    "ghm_each_step": lambda: GhmMining(mu=0.2, num_bins=4, momentum=0.0),
    "pisa": PisaMining,
    "pisa_biased": lambda: PisaMining(power=1.0, bias=0.2),
    "range_cut": lambda: RangeCut(max_m=40.0),
    "range_cut_soft": lambda: RangeCut(max_m=40.0, softness_m=5.0),
}
"""Name → strategy; kinds with their defaults, and with settings that take other branches."""


def at_once(kind: type[Scheduled], **settings: float) -> Scheduled:
    """A strategy without warm-up and ramp."""
    return kind(**{"warmup_epochs": 0.0, "ramp_epochs": 0.0, **settings})  # type: ignore[arg-type]


def weights_of(mining: Mining, samples: DepthSamples) -> list[float]:
    """In the first step of a run."""
    weights: list[float] = mining.weigh(samples, mining.initial_state(), 0.0).weights.tolist()
    return weights
