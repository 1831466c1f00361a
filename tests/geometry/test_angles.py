"""Angles: wrapping, and alpha against yaw."""

import math

import pytest
import torch

from mono3d.geometry.angles import alpha_from_yaw, wrap, yaw_from_alpha


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (0.0, 0.0),
        (math.pi, -math.pi),
        (-math.pi, -math.pi),
        (3.5, 3.5 - 2 * math.pi),
        (-7.0, -0.71681469),
    ],
)
def test_wrap_of_known_angles(angle: float, expected: float) -> None:
    wrapped = wrap(torch.tensor(angle, dtype=torch.float64))
    torch.testing.assert_close(wrapped, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wrap_stays_in_its_half_open_interval_even_next_to_the_seam(dtype: torch.dtype) -> None:
    seams = torch.arange(-9, 10, 2, dtype=dtype) * math.pi
    below = torch.nextafter(seams, torch.tensor(-torch.inf, dtype=dtype))
    above = torch.nextafter(seams, torch.tensor(torch.inf, dtype=dtype))
    tiny = torch.tensor([-math.pi - 1e-16, -1e-30 - math.pi], dtype=dtype)
    wrapped = wrap(torch.cat([seams, below, above, tiny]))
    pi = torch.tensor(math.pi, dtype=dtype)
    assert (wrapped >= -pi).all()
    assert (wrapped < pi).all()


def test_wrap_keeps_the_direction() -> None:
    angles = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    torch.testing.assert_close(wrap(angles).sin(), angles.sin(), atol=1e-12, rtol=0)
    torch.testing.assert_close(wrap(angles).cos(), angles.cos(), atol=1e-12, rtol=0)


def test_alpha_is_yaw_straight_ahead_and_less_the_ray_beside() -> None:
    centers = torch.tensor([[0.0, 1.0, 20.0], [10.0, 1.0, 10.0], [-10.0, 1.0, 10.0]])
    alpha = alpha_from_yaw(torch.full((3,), 0.5), centers)
    expected = torch.tensor([0.5, 0.5 - math.pi / 4, 0.5 + math.pi / 4])
    torch.testing.assert_close(alpha, expected)


def test_alpha_and_yaw_are_inverse() -> None:
    generator = torch.Generator().manual_seed(0)
    yaw = (torch.rand(500, generator=generator, dtype=torch.float64) - 0.5) * 2 * math.pi
    centers = torch.randn(500, 3, generator=generator, dtype=torch.float64) * 30
    back = yaw_from_alpha(alpha_from_yaw(yaw, centers), centers)
    torch.testing.assert_close(wrap(back - yaw), torch.zeros_like(yaw), atol=1e-12, rtol=0)
