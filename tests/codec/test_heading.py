import math

import pytest
import torch

from mono3d.codec.heading import decode_heading, encode_axis, encode_direction


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
