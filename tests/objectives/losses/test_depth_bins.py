import math

import pytest
import torch

from mono3d.objectives.losses.depth_bins import depth_bin_focal


def test_it_is_the_focal_loss_of_the_true_bin() -> None:
    shares = torch.tensor([0.2, 0.5, 0.3])
    losses, _ = depth_bin_focal(shares.log().view(1, 3, 1), torch.tensor([[1]]), gamma=2.0)
    assert float(losses) == pytest.approx(-(0.5**2) * math.log(0.5))


def test_without_gamma_it_is_cross_entropy() -> None:
    logits = torch.randn(2, 7, 5)
    index = torch.randint(0, 7, (2, 5))
    losses, _ = depth_bin_focal(logits, index, gamma=0.0)
    wanted = torch.nn.functional.cross_entropy(logits, index, reduction="none")
    torch.testing.assert_close(losses, wanted)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_is_that_of_automatic_differentiation(gamma: float) -> None:
    logits = torch.randn(2, 7, 5, requires_grad=True)
    index = torch.randint(0, 7, (2, 5))
    losses, gradient = depth_bin_focal(logits, index, gamma=gamma)
    (wanted,) = torch.autograd.grad(losses.sum(), logits)
    torch.testing.assert_close(gradient, wanted.norm(dim=1), rtol=1e-4, atol=1e-6)
    assert not gradient.requires_grad


def test_gradcheck() -> None:
    logits = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, 4, (1, 3))

    def loss(values: torch.Tensor) -> torch.Tensor:
        shares = values.log_softmax(1).gather(1, index[:, None])
        return -((1 - shares.exp()) ** 2) * shares

    assert torch.autograd.gradcheck(loss, logits)
    mine, _ = depth_bin_focal(logits.float(), index, gamma=2.0)
    torch.testing.assert_close(mine, loss(logits)[:, 0].float(), rtol=1e-4, atol=1e-6)


def test_no_cells_have_no_losses() -> None:
    losses, gradient = depth_bin_focal(
        torch.zeros(1, 4, 0), torch.zeros(1, 0, dtype=torch.int64), gamma=2.0
    )
    assert losses.shape == gradient.shape == (1, 0)


def test_a_certain_cell_is_finite_and_pays_nothing() -> None:
    logits = torch.tensor([200.0, -200, -200]).view(1, 3, 1)
    for gamma in (0.0, 0.5, 2.0):
        losses, gradient = depth_bin_focal(logits, torch.tensor([[0]]), gamma=gamma)
        assert float(losses) == 0
        assert float(gradient) == 0
