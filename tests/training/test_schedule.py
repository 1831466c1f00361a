import math

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from mono3d.training.schedule import (
    build_adamw,
    build_muon,
    build_sgd,
    cosine_schedule,
    guarded_step,
    parameter_groups,
    set_learning_rate,
    step_schedule,
)
from tests.support.detectors import make_detector


def test_cosine_at_round_points() -> None:
    """Warm-up over 4 steps, then from 1 at step 4 to 0.1 at step 24; half-way is 0.55."""
    share = cosine_schedule(warmup_steps=4, total_steps=24, final_share=0.1)
    assert [share(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [share(step) for step in (4, 14, 24, 99)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    quarter = 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2
    assert share(9) == pytest.approx(quarter)


def test_cosine_without_warm_up_and_longer_than_the_run() -> None:
    assert cosine_schedule(warmup_steps=0, total_steps=10, final_share=0.0)(0) == 1.0
    short = cosine_schedule(warmup_steps=10, total_steps=5, final_share=0.0)
    assert [short(step) for step in (0, 4)] == [0.1, 0.5]


def test_steps_drop_at_their_milestones() -> None:
    share = step_schedule(warmup_steps=2, milestones=iter([8, 11]), factor=0.1)
    shares = [share(step) for step in (0, 1, 2, 7, 8, 10, 11, 50)]
    assert shares == pytest.approx([0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_weights_decay_and_norms_biases_and_scales_do_not() -> None:
    detector = make_detector(num_depth_bins=4)
    frozen = next(iter(detector.trunk.backbone.parameters())).requires_grad_(False)
    decaying, plain = parameter_groups(detector, 0.05)
    assert decaying["weight_decay"] == 0.05
    assert plain["weight_decay"] == 0.0
    assert all(p.dim() > 1 for p in decaying["params"])
    plain_ids = {id(p) for p in plain["params"]}
    assert id(detector.depth_head.fusion_logit) in plain_ids
    assert {id(p) for p in detector.scales.values()} <= plain_ids
    together = [*decaying["params"], *plain["params"]]
    assert len(together) == sum(p.requires_grad for p in detector.parameters())
    assert id(frozen) not in {id(p) for p in together}


def build(kind: str, module: nn.Module) -> Optimizer:
    if kind == "adamw":
        return build_adamw(module, lr=0.1, weight_decay=0.01, betas=(0.9, 0.999))
    if kind == "muon":
        betas = (0.9, 0.999)
        return build_muon(module, lr=0.1, weight_decay=0.01, momentum=0.9, betas=betas)
    return build_sgd(module, lr=0.1, weight_decay=0.01, momentum=0.9)


def reference(kind: str, module: nn.Module) -> Optimizer:
    if kind == "adamw":
        return torch.optim.AdamW(parameter_groups(module, 0.01), lr=0.1)
    return torch.optim.SGD(parameter_groups(module, 0.01), lr=0.1, momentum=0.9)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(24, 16)


def give_gradient(module: nn.Module, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=random)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_guarded_steps_are_the_plain_optimiser_s(kind: str) -> None:
    ours, plain = linear(), linear()
    optimizer, other = build(kind, ours), reference(kind, plain)
    for seed in range(4):
        give_gradient(ours, seed)
        give_gradient(plain, seed)
        guarded_step(optimizer, torch.zeros(()))
        other.step()
    for one, wanted in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, wanted)


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("bad_first", [False, True])
def test_a_bad_step_might_as_well_not_have_been(kind: str, bad_first: bool) -> None:
    """Whether or not the optimiser has a state already."""
    with_bad, without = linear(), linear()
    one, other = build(kind, with_bad), build(kind, without)
    for seed in range(3):
        if seed == (0 if bad_first else 2):
            give_gradient(with_bad, 99)
            for parameter in with_bad.parameters():
                parameter.grad = torch.full_like(parameter, torch.nan)
            guarded_step(one, torch.ones(()))
        for module, optimizer in ((with_bad, one), (without, other)):
            give_gradient(module, seed)
            guarded_step(optimizer, torch.zeros(()))
    for left, right in zip(with_bad.parameters(), without.parameters(), strict=True):
        assert torch.equal(left, right)
        for name, value in one.state[left].items():
            assert torch.equal(value, other.state[right][name]), name


def test_one_rate_for_all_groups() -> None:
    optimizer = build("muon", linear())
    set_learning_rate(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025] * 3
