import math

import pytest
import torch

from mono3d.codec.heatmap import MAX_RADIUS, MIN_OVERLAP, bump_radius, draw_bumps


def overlaps_of(width: float, height: float, shift: float) -> list[float]:
    """IoU of a box with itself moved along both axes, shrunk on all sides, grown on all sides."""
    area = width * height
    kept = (width - shift) * (height - shift)
    less = (width - 2 * shift) * (height - 2 * shift)
    more = (width + 2 * shift) * (height + 2 * shift)
    return [kept / (2 * area - kept), less / area, area / more]


@pytest.mark.parametrize(("width", "height"), [(10.0, 10.0), (3.0, 40.0), (60.0, 25.0), (1.0, 0.5)])
def test_the_radius_is_the_largest_shift_that_keeps_the_overlap(
    width: float, height: float
) -> None:
    radius = bump_radius(torch.tensor([width, height], dtype=torch.float64)).item()
    assert min(overlaps_of(width, height, radius)) == pytest.approx(MIN_OVERLAP, abs=1e-6)
    assert min(overlaps_of(width, height, 1.01 * radius)) < MIN_OVERLAP


def test_radii_of_no_and_of_huge_boxes_are_bounded() -> None:
    radius = bump_radius(torch.tensor([[0.0, 0.0], [5.0, 0.0], [1e4, 1e4]]))
    assert radius.tolist() == [0.0, 0.0, MAX_RADIUS]


def test_bumps_by_hand() -> None:
    """A bump of radius 1 (deviation 1/2) and a point, in maps of 3 rows and 5 columns."""
    maps = draw_bumps(
        torch.tensor([[[1, 1], [4, 0], [2, 2]]]),
        torch.tensor([[1.0, 0.0, 3.0]]),
        torch.tensor([[0, 1, 1]]),
        torch.tensor([[True, True, False]]),
        num_channels=2,
        size=(3, 5),
    )
    first, second = maps[0].T.reshape(2, 3, 5)
    near, corner = math.exp(-2), math.exp(-4)
    row = [near, 1.0, near, 0.0, 0.0]
    side = [corner, near, corner, 0.0, 0.0]
    torch.testing.assert_close(first, torch.tensor([side, row, side]))
    assert second.nonzero().tolist() == [[0, 4]]
    assert second[0, 4] == 1


def test_where_bumps_meet_the_higher_one_counts_and_nothing_wraps_around() -> None:
    maps = draw_bumps(
        torch.tensor([[[0, 1], [2, 1]]]),
        torch.tensor([[2.0, 2.0]]),
        torch.tensor([[0, 0]]),
        torch.tensor([[True, True]]),
        num_channels=1,
        size=(3, 12),
    )
    grid = maps[0, :, 0].view(3, 12)
    deviation = 5 / 6
    assert grid[1, 0] == grid[1, 2] == 1
    assert grid[1, 1].item() == pytest.approx(math.exp(-1 / (2 * deviation**2)))
    assert grid[:, 5:].eq(0).all()
