import math

import pytest
import torch

from mono3d.codec.heading import (
    NUM_BINS,
    AxisHeading,
    BinHeading,
    HeadingCode,
    decode_bin,
    decode_heading,
    encode_axis,
    encode_bin,
    encode_direction,
)
from mono3d.geometry.angles import wrap


def test_decode_inverts_encode_all_around() -> None:
    alpha = torch.linspace(-math.pi, math.pi, 721)[:-1] + 1e-3  # none on the direction's border
    decoded = decode_heading(encode_axis(alpha), encode_direction(alpha))
    torch.testing.assert_close(decoded, alpha, rtol=0, atol=1e-5)


def test_the_axis_may_have_any_length() -> None:
    alpha = torch.tensor([0.3, -2.0, 3.0])
    decoded = decode_heading(7.5 * encode_axis(alpha), encode_direction(alpha))
    torch.testing.assert_close(decoded, alpha)


def test_opposite_headings_share_the_axis_and_differ_in_direction() -> None:
    alpha = torch.tensor([0.1, 1.2, -0.7])
    torch.testing.assert_close(encode_axis(alpha), encode_axis(alpha + math.pi), atol=1e-6, rtol=0)
    assert (encode_direction(alpha) != encode_direction(alpha + math.pi)).all()


@pytest.mark.parametrize(
    ("degrees", "direction"),
    [(45.01, 0), (44.99, 1), (0, 1), (90, 0), (180, 0), (-180, 0), (-135.01, 0), (-134.99, 1)],
)
def test_the_border_of_the_directions_is_at_45_degrees(degrees: float, direction: int) -> None:
    alpha = torch.tensor([math.radians(degrees)])
    assert encode_direction(alpha).item() == direction
    decoded = decode_heading(encode_axis(alpha), encode_direction(alpha))
    assert math.cos(decoded.item() - alpha.item()) == pytest.approx(1.0, abs=1e-6)


def test_decoded_angles_are_in_the_half_open_turn() -> None:
    axis = encode_axis(torch.tensor([math.pi, -math.pi, math.pi - 1e-7, 1e-8 - math.pi]))
    decoded = decode_heading(axis, torch.tensor([0, 0, 0, 0]))
    assert (decoded >= -math.pi).all()
    assert (decoded < math.pi).all()


def test_bins_decode_what_they_encode_all_around() -> None:
    alpha = torch.linspace(-math.pi, math.pi, 721)[:-1]
    number, residual = encode_bin(alpha)
    assert set(number.tolist()) == set(range(NUM_BINS))
    assert residual.abs().max() <= math.pi / NUM_BINS + 1e-6
    torch.testing.assert_close(decode_bin(number, residual), alpha, rtol=0, atol=1e-5)


def test_bin_zero_looks_along_the_ray_and_bin_six_back() -> None:
    number, residual = encode_bin(torch.tensor([0.0, 0.1, -0.1, math.pi - 0.1]))
    assert number.tolist() == [0, 0, 0, 6]
    torch.testing.assert_close(residual, torch.tensor([0.0, 0.1, -0.1, -0.1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("code", [AxisHeading(), BinHeading()], ids=["axis", "bins"])
def test_the_mean_with_the_mirrored_answer_is_the_angle_itself(code: HeadingCode) -> None:
    """A network that says alpha of the image and pi - alpha of the mirror image."""
    alpha = torch.linspace(-math.pi, math.pi, 360)[:-1] + 1e-3
    said = code.encode(alpha)
    mirrored = code.encode(wrap(math.pi - alpha))
    torch.testing.assert_close((code.decode(said) - alpha).cos(), torch.ones_like(alpha))
    decoded = code.decode(code.mean_with_mirrored(said, mirrored))
    torch.testing.assert_close((decoded - alpha).cos(), torch.ones_like(alpha))
