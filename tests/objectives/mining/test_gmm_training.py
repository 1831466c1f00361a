"""What mining does to a model that learns: easy mining must tell a hard sample from a wrong one.

A linear model learns log depth from 8 features, with 5 % label noise, for 500 steps, mining in
full from the first step (the harshest case: a recipe warms up first). Two scenarios:

* **clean hard minority**: samples whose depth also depends on features that only they have, so
  that the untrained model is several times as wrong on them; plain training learns them.
* **biased outliers**: samples that look like all others and whose labels are twice as far.

Measured over 12 settings with a minority of 20 % (nearer or farther than the others, 1.2 to 6.7
times as wrong at first; SGD at 0.03 and 0.01, Adam at 0.003):

=========  ========  =====  ==============================  ===========================
sharpness  exponent  floor  weight of the minority          error with outliers (SGD)
=========  ========  =====  ==============================  ===========================
(no mining)                 1                               3.0 %
2          0.5       0.1    0.25 to 1.06, six under 0.5     1.7 %
4          0.25      0.1    0.97 or more                    1.2 %
4          0.25      0.2    0.98 or more (the defaults)     1.3 %
6          0.25      0.2    0.96 or more                    1.2 %
4          0         0.2    0.98 or more                    1.2 %
=========  ========  =====  ==============================  ===========================

The gradient factor is no gift here: under smooth L1 a sample already learnt has a small gradient,
so balancing raises its weight, which is easy mining a second time. Exponent 0 would be safer still
on this loss.

What the defaults do *not* hold: a minority of 10 % at SGD 0.01 ends at a weight of 0.3 to 0.85 and
a relative error of 3 to 32 % where plain training reaches 1 %. Mining slows what is hard, up to
1 / floor times; the smaller the group and the rate, the longer the warm-up has to be.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from mono3d.objectives.losses.depth import smooth_l1, smooth_l1_gradient
from mono3d.objectives.mining.easy_topk import EasyTopk
from mono3d.objectives.mining.focal import FocalMining
from mono3d.objectives.mining.ghm import GhmMining
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.mining.ohem import Ohem
from mono3d.objectives.mining.pisa import PisaMining
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.mining.uniform import Uniform
from mono3d.structures import DepthSamples

STEPS, BATCH, FEATURES = 500, 128, 8
MEAN_LOG, STD_LOG, NOISE, BETA = 3.0, 0.6, 0.05, 1.0 / 9.0

FROM_THE_START = {"warmup_epochs": 0.0, "ramp_epochs": 0.0}


@dataclass(frozen=True)
class Draw:
    """Inputs, true and labelled log depth, and which samples are the special ones."""

    inputs: Tensor
    log_depth: Tensor
    label: Tensor
    special: Tensor


Scenario = Callable[[int, float, torch.Generator], Draw]


def minority(offset: float) -> Scenario:
    """Samples with features and a mean log depth of their own, nearer (< 0) or farther (> 0)."""

    def draw(count: int, share: float, generator: torch.Generator) -> Draw:
        special = torch.rand(count, generator=generator) < share
        own = torch.randn(count, FEATURES, generator=generator) * special[:, None]
        common = torch.randn(count, FEATURES, generator=generator)
        inputs = torch.cat([common, own, special[:, None].float(), torch.ones(count, 1)], dim=1)
        spread = (0.25 * common.sum(1) + 0.5 * own.sum(1)) / FEATURES**0.5
        log_depth = MEAN_LOG + spread + offset * special
        label = log_depth + NOISE * torch.randn(count, generator=generator)
        return Draw(inputs, log_depth, label, special)

    return draw


def biased_outliers(count: int, share: float, generator: torch.Generator) -> Draw:
    clean = minority(0.0)(count, 0.0, generator)
    special = torch.rand(count, generator=generator) < share
    return replace(clean, label=clean.label + 0.7 * special, special=special)


@dataclass(frozen=True)
class Outcome:
    """After training: weight of the special and the other samples, and their true errors."""

    special_weight: float
    other_weight: float
    special_error: float
    other_error: float
    initial_ratio: float
    """Error of the special samples over that of the others, before the first step."""


def train(
    mining: Mining, scenario: Scenario, share: float, rate: float, *, adam: bool = False
) -> Outcome:
    generator = torch.Generator().manual_seed(0)
    weight = torch.zeros(2 * FEATURES + 2, requires_grad=True)
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam([weight], lr=rate)
        if adam
        else torch.optim.SGD([weight], lr=rate, momentum=0.9)
    )
    test = scenario(4096, share, torch.Generator().manual_seed(1))
    before = _true_error(weight, test)
    state, history = mining.initial_state(), []
    for _ in range(STEPS):
        draw = scenario(BATCH, share, generator)
        raw = draw.inputs @ weight
        target = (draw.label - MEAN_LOG) / STD_LOG
        answer = mining.weigh(_samples(raw, draw), state, 0.0)
        state = answer.state
        optimizer.zero_grad()
        (answer.weights * smooth_l1(raw, target, beta=BETA)).mean().backward()
        optimizer.step()
        history.append((answer.weights[draw.special].mean(), answer.weights[~draw.special].mean()))
    special_weight, other_weight = torch.tensor(history[-20:]).nanmean(0).tolist()
    after = _true_error(weight, test)
    return Outcome(
        special_weight=special_weight,
        other_weight=other_weight,
        special_error=after[test.special].mean().item(),
        other_error=after[~test.special].mean().item(),
        initial_ratio=(before[test.special].mean() / before[~test.special].mean()).item(),
    )


def _samples(raw: Tensor, draw: Draw) -> DepthSamples:
    target = (draw.label - MEAN_LOG) / STD_LOG
    return DepthSamples(
        predicted_m=torch.exp(STD_LOG * raw.detach() + MEAN_LOG),
        target_m=torch.exp(draw.label),
        gradient=smooth_l1_gradient(raw.detach(), target, torch.ones(1), beta=BETA),
        object_ids=torch.arange(BATCH),
        labels=torch.zeros(BATCH, dtype=torch.int64),  # nothing tells who is special
        valid=torch.ones(BATCH, dtype=torch.bool),
    )


def _true_error(weight: Tensor, draw: Draw) -> Tensor:
    predicted = STD_LOG * (draw.inputs @ weight.detach()) + MEAN_LOG
    return torch.expm1(predicted - draw.log_depth).abs()


@pytest.mark.parametrize(
    ("offset", "share", "rate", "adam"),
    [
        (-0.7, 0.2, 0.01, False),
        (-0.7, 0.2, 3e-3, True),
        pytest.param(-0.7, 0.2, 0.03, False, marks=pytest.mark.slow),
        pytest.param(0.7, 0.2, 0.01, False, marks=pytest.mark.slow),
        pytest.param(-0.7, 0.1, 0.03, False, marks=pytest.mark.slow),
    ],
)
def test_a_clean_hard_minority_keeps_its_weight(
    offset: float, share: float, rate: float, adam: bool
) -> None:
    plain = train(Uniform(), minority(offset), share, rate, adam=adam)
    mined = train(GmmMining(**FROM_THE_START), minority(offset), share, rate, adam=adam)
    # The scenario is what it says: hard at first, and learnt without mining.
    assert plain.initial_ratio > 2.0
    assert plain.special_error < 0.03
    assert mined.special_weight >= 0.5
    assert mined.special_error < 0.03


def test_biased_outliers_weigh_less_than_half_of_clean_samples() -> None:
    plain = train(Uniform(), biased_outliers, 0.2, 0.03)
    mined = train(GmmMining(**FROM_THE_START), biased_outliers, 0.2, 0.03)
    assert mined.special_weight < 0.5 * mined.other_weight
    assert mined.other_error < 0.7 * plain.other_error


def test_a_sharper_setting_starves_the_minority_that_the_defaults_keep() -> None:
    # Why the defaults are not sharper; if this fails, they may be.
    sharp = GmmMining(sharpness=2.0, floor=0.1, gradient_exponent=0.5, **FROM_THE_START)
    assert train(sharp, minority(-0.7), 0.2, 0.01).special_weight < 0.5


TOY: list[tuple[Mining, float, float]] = [
    (Uniform(), 0.030, 0.009),
    (GmmMining(**FROM_THE_START), 0.013, 0.008),
    (Ohem(**FROM_THE_START), 0.043, 0.012),
    (EasyTopk(**FROM_THE_START), 0.018, 1.25),
    (FocalMining(**FROM_THE_START), 0.26, 0.016),
    (GhmMining(**FROM_THE_START), 0.020, 0.008),
    (PisaMining(**FROM_THE_START), 0.019, 0.99),
    (PisaMining(bias=0.2, **FROM_THE_START), 0.019, 0.044),
]
"""Strategy, true error of clean samples beside outliers, and of a hard minority."""


@pytest.mark.slow
@pytest.mark.parametrize(("mining", "with_outliers", "of_minority"), TOY)
def test_the_table_of_all_kinds_in_the_documents(
    mining: Mining, with_outliers: float, of_minority: float
) -> None:
    """docs/mining.md: hard mining learns outliers, sharp easy mining never learns a minority."""
    outliers = train(mining, biased_outliers, 0.2, 0.03)
    minor = train(mining, minority(-0.7), 0.2, 0.01)
    assert outliers.other_error == pytest.approx(with_outliers, rel=0.15)
    assert minor.special_error == pytest.approx(of_minority, rel=0.15)
