import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mono3d.objectives.losses.depth import (
    laplace_nll,
    laplace_nll_gradient,
    mined_laplace_nll,
    smooth_l1,
    smooth_l1_gradient,
)

STD, MEAN, SCALE = 0.6, 3.0, 12.0

CODECS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "normalised_log": (lambda x: x, torch.ones_like),
    "log": (lambda x: STD * x + MEAN, lambda x: torch.full_like(x, STD)),
    "exp": (lambda x: torch.exp(STD * x + MEAN), lambda x: STD * torch.exp(STD * x + MEAN)),
    "inverse_sigmoid": (lambda x: 1 / torch.sigmoid(x) - 1, lambda x: torch.exp(-x)),
    "affine": (lambda x: SCALE * x + 30, lambda x: torch.full_like(x, SCALE)),
}
"""Raw output → depth coordinate, and the slope |∂ depth / ∂ x| as written in the module."""

RAW = torch.tensor([-1.3, -0.4, 0.2, 0.7, 1.1], dtype=torch.float64)


@pytest.fixture(params=list(CODECS))
def codec(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def finite_difference(loss: Callable[[Tensor], Tensor]) -> Tensor:
    step = 1e-6
    return ((loss(RAW + step) - loss(RAW - step)) / (2 * step)).abs()


@pytest.mark.parametrize("beta", [0.0, 1.0 / 9.0, 5.0])
def test_smooth_l1_gradient_equals_finite_differences(codec: str, beta: float) -> None:
    decode, slope = CODECS[codec]
    target = decode(RAW) + torch.tensor([-4.0, -0.05, 0.02, 0.3, 9.0], dtype=torch.float64)
    expected = finite_difference(lambda raw: smooth_l1(decode(raw), target, beta=beta))
    ours = smooth_l1_gradient(decode(RAW), target, slope(RAW), beta=beta)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


def test_laplace_gradient_equals_finite_differences(codec: str) -> None:
    decode, slope = CODECS[codec]
    target = decode(RAW) + torch.tensor([-4.0, -0.05, 0.02, 0.3, 9.0], dtype=torch.float64)
    log_sigma = torch.linspace(-1.0, 2.0, 5, dtype=torch.float64)
    expected = finite_difference(lambda raw: laplace_nll(decode(raw), log_sigma, target))
    ours = laplace_nll_gradient(log_sigma, slope(RAW))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


def test_smooth_l1_by_hand() -> None:
    # beta 2: 0.5 · 1² / 2 = 0.25 inside, 5 - 1 = 4 outside; beta 0 is the plain error.
    predicted, target = torch.tensor([11.0, 15.0]), torch.tensor([10.0, 10.0])
    assert smooth_l1(predicted, target, beta=2.0).tolist() == [0.25, 4.0]
    assert smooth_l1(predicted, target, beta=0.0).tolist() == [1.0, 5.0]
    slope = torch.tensor([3.0])
    assert smooth_l1_gradient(predicted, target, slope, beta=2.0).tolist() == [1.5, 3.0]


def test_gradient_of_a_perfect_prediction() -> None:
    exact = torch.tensor([10.0])
    assert smooth_l1_gradient(exact, exact, torch.ones(1), beta=0.5).tolist() == [0.0]
    assert smooth_l1_gradient(exact, exact, torch.ones(1), beta=0.0).tolist() == [1.0]


def test_laplace_by_hand() -> None:
    # Error 3 m, sigma 2 m: √2 · 3 / 2 + ln 2.
    value = laplace_nll(torch.tensor([13.0]), torch.tensor([math.log(2.0)]), torch.tensor([10.0]))
    assert value.tolist() == pytest.approx([math.sqrt(2.0) * 1.5 + math.log(2.0)])


def test_laplace_is_least_where_sigma_fits_the_error() -> None:
    # A fitted head puts a gradient of 1 / error on depth: it already mines easy samples.
    error, best = 3.0, math.log(math.sqrt(2.0) * 3.0)
    values = [
        laplace_nll(torch.tensor([error]), torch.tensor([s]), torch.zeros(1)).item()
        for s in (best - 0.1, best, best + 0.1)
    ]
    assert values[1] == min(values)
    assert laplace_nll_gradient(torch.tensor([best]), torch.ones(1)).item() == pytest.approx(1 / 3)


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, log_sigma, target = torch.randn(3, 6, dtype=torch.float64, generator=generator)
    leaves = predicted.requires_grad_(), log_sigma.requires_grad_()
    weights = torch.linspace(0.0, 2.0, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d: smooth_l1(d, target, beta=0.3), leaves[:1])
    assert torch.autograd.gradcheck(lambda d, s: laplace_nll(d, s, target), leaves)
    # The stop-gradient of the mined loss is not a function gradcheck can see; sigma alone is.
    assert torch.autograd.gradcheck(
        lambda s: mined_laplace_nll(predicted, s, target, weights), leaves[1:]
    )


def test_mined_laplace_with_weight_one_is_laplace() -> None:
    predicted, log_sigma, target = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(6)
    assert torch.equal(
        mined_laplace_nll(predicted, log_sigma, target, ones),
        laplace_nll(predicted, log_sigma, target),
    )


def test_mined_laplace_weighs_depth_and_spares_uncertainty() -> None:
    predicted = torch.tensor([12.0, 12.0, 12.0], requires_grad=True)
    log_sigma = torch.zeros(3, requires_grad=True)
    target, weights = torch.full((3,), 10.0), torch.tensor([0.0, 0.25, 3.0])
    mined_laplace_nll(predicted, log_sigma, target, weights).sum().backward()
    depth, sigma = predicted.grad, log_sigma.grad
    assert depth is not None
    assert sigma is not None
    assert depth.tolist() == pytest.approx([w * math.sqrt(2.0) for w in (0.0, 0.25, 3.0)])
    # ∂NLL/∂s = 1 - √2 · 2, in full below weight one.
    assert sigma.tolist() == pytest.approx([w * (1 - 2 * math.sqrt(2.0)) for w in (1, 1, 3)])


def test_weights_with_a_gradient_learn_from_the_whole_loss_also_below_one() -> None:
    """As those of learnt selection: a weight costs what its sample costs."""
    predicted, log_sigma = torch.tensor([12.0, 10.5, 9.0]), torch.tensor([0.0, 0.2, -0.1])
    target, weights = torch.full((3,), 10.0), torch.tensor([0.25, 1.0, 3.0], requires_grad=True)
    mined_laplace_nll(predicted, log_sigma, target, weights).sum().backward()
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, laplace_nll(predicted, log_sigma, target))


def test_weighting_l1_by_its_error_is_a_redescending_loss() -> None:
    # exp(-e / τ) with no gradient through it, times the gradient of L1, is that of
    # τ (1 - exp(-e / τ)): bounded, so an outlier cannot pull for ever.
    tau, target = 0.2, torch.zeros(5, dtype=torch.float64)
    raw = RAW.clone().requires_grad_()
    weight = torch.exp(-raw.detach().abs() / tau)
    (ours,) = torch.autograd.grad((weight * smooth_l1(raw, target, beta=0.0)).sum(), raw)
    (expected,) = torch.autograd.grad((tau * (1 - torch.exp(-raw.abs() / tau))).sum(), raw)
    torch.testing.assert_close(ours, expected)


def test_no_samples() -> None:
    empty = torch.zeros(0)
    assert smooth_l1(empty, empty, beta=0.1).shape == (0,)
    assert mined_laplace_nll(empty, empty, empty, empty).shape == (0,)
