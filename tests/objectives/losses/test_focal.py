import math

import pytest
import torch
from torch.nn import functional as F

from mono3d.objectives.losses.focal import sigmoid_focal


def test_values_by_hand() -> None:
    """At p = 0.2: a positive costs 0.25 · 0.8² · ln 5, a negative 0.75 · 0.2² · ln 1.25."""
    logit = torch.full((2,), math.log(0.2 / 0.8))
    loss = sigmoid_focal(logit, torch.tensor([1.0, 0.0]), alpha=0.25, gamma=2.0)
    expected = [0.25 * 0.64 * math.log(5), 0.75 * 0.04 * math.log(1.25)]
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)


def test_without_focus_it_is_half_the_cross_entropy() -> None:
    logits, targets = torch.linspace(-5, 5, 11), (torch.arange(11) % 2).float()
    loss = sigmoid_focal(logits, targets, alpha=0.5, gamma=0.0)
    torch.testing.assert_close(
        loss, 0.5 * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    )


def test_gradient() -> None:
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)
    targets = (torch.arange(9) % 3 == 0).double()
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal(x, targets, alpha=0.25, gamma=2.0), (logits,)
    )


def test_certain_answers_are_finite_and_nothing_costs_nothing() -> None:
    logits = torch.tensor([200.0, -200.0], requires_grad=True)
    loss = sigmoid_focal(logits, torch.tensor([0.0, 1.0]), alpha=0.25, gamma=2.0)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert len(sigmoid_focal(torch.zeros(0), torch.zeros(0), alpha=0.25, gamma=2.0)) == 0
