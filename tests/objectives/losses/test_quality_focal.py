import math

import pytest
import torch
from torch.autograd import gradcheck

from mono3d.objectives.losses.focal import sigmoid_focal
from mono3d.objectives.losses.quality_focal import quality_focal


def test_it_is_cross_entropy_times_the_squared_miss() -> None:
    logit = torch.tensor(math.log(0.25 / 0.75))  # probability 0.25
    entropy = -(0.6 * math.log(0.25) + 0.4 * math.log(0.75))
    found = quality_focal(logit, torch.tensor(0.6))
    assert float(found) == pytest.approx(0.35**2 * entropy)


def test_who_says_the_quality_pays_nothing() -> None:
    quality = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(quality_focal(torch.logit(quality), quality), torch.zeros(3))


def test_without_quality_it_is_the_focal_loss_of_background() -> None:
    logits = torch.randn(20)
    nothing = torch.zeros(20)
    focal = sigmoid_focal(logits, nothing, alpha=0.0, gamma=2.0)
    torch.testing.assert_close(quality_focal(logits, nothing), focal)


def test_gradcheck() -> None:
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    quality = torch.rand(6, dtype=torch.float64)
    assert gradcheck(quality_focal, (logits, quality))


def test_of_nothing_it_is_nothing() -> None:
    assert quality_focal(torch.zeros(0), torch.zeros(0)).shape == (0,)
