"""Which points learn which object, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from mono3d.codec.points import (
    RADIUS_STRIDES,
    Assignment,
    PointAssigner,
    level_ranges_px,
    level_size,
    make_points,
)

STRIDES = (8, 16)
GRID = make_points((64, 96), STRIDES)
RANGES = level_ranges_px(STRIDES, 48.0)


def assigned(
    centers: list[list[float]], boxes: list[list[float]], *, radius: float = RADIUS_STRIDES
) -> Assignment:
    """Objects of one image."""
    return PointAssigner((64, 96), STRIDES, RANGES, radius)(
        torch.tensor(centers, dtype=torch.float32).reshape(-1, 2),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.zeros(len(centers), dtype=torch.int64),
    )


def positive_points(found: Assignment) -> list[tuple[float, float, float]]:
    """(u, v, stride) of the positives."""
    strides = GRID.strides_px[found.points, None]
    rows = torch.cat([GRID.centers_px[found.points], strides], dim=1).tolist()
    return [tuple(row) for row in rows]


def test_points_lie_in_the_middle_of_their_cells_level_after_level() -> None:
    assert len(GRID) == 8 * 12 + 4 * 6
    assert GRID.centers_px[:2].tolist() == [[4, 4], [12, 4]]
    assert GRID.centers_px[12].tolist() == [4, 12]
    assert GRID.centers_px[96].tolist() == [8, 8]
    assert GRID.strides_px[[0, 95, 96]].tolist() == [8, 8, 16]


def test_partial_cells_count() -> None:
    assert level_size((30, 50), 16) == (2, 4)
    assert len(make_points((30, 50), (16,))) == 8


def test_ranges_double_by_level_and_end_open() -> None:
    assert level_ranges_px((8, 16, 32, 64, 128), 48.0) == [
        (-1, 48), (48, 96), (96, 192), (192, 384), (384, math.inf),
    ]  # fmt: skip
    assert level_ranges_px((16,), 48.0) == [(-1, math.inf)]


def test_points_within_one_and_a_half_strides_learn_the_object() -> None:
    found = assigned([[36, 28]], [[26, 18, 46, 38]])
    square = [(u, v, 8.0) for v in (20.0, 28.0, 36.0) for u in (28.0, 36.0, 44.0)]
    assert positive_points(found) == square
    side, corner = math.exp(-2.5 * 8 / (math.sqrt(2) * 12)), math.exp(-2.5 * 8 / 12)
    assert side == pytest.approx(0.3077, abs=1e-4)
    assert corner == pytest.approx(0.1889, abs=1e-4)
    expected = [corner, side, corner, side, 1.0, side, corner, side, corner]
    torch.testing.assert_close(found.centerness, torch.tensor(expected))


def test_a_point_exactly_one_and_a_half_strides_away_does_not() -> None:
    found = assigned([[40, 28]], [[30, 18, 50, 38]])
    assert {u for u, _, _ in positive_points(found)} == {36.0, 44.0}


@pytest.mark.parametrize(("right", "strides"), [(84, [8.0]), (85, []), (88, []), (89, [16.0])])
def test_the_largest_side_distance_chooses_the_level(right: float, strides: list[float]) -> None:
    """The limit is 48 px: up to 84 from the fine point (36, 28), from 88 on of the coarse (40, 24).

    Between the two the object has no point of either level right there.
    """
    found = assigned([[36, 28]], [[30, 18, right, 38]])
    nearest = [(36, 28, 8), (40, 24, 16)]
    assert [s for u, v, s in positive_points(found) if (u, v, s) in nearest] == strides


def test_the_nearest_centre_wins_a_contested_point() -> None:
    near, far = [36.0, 28.0], [45.0, 28.0]
    box = [26.0, 18.0, 56.0, 38.0]
    found = assigned([far, near], [box, box])
    objects = dict(zip(positive_points(found), found.objects.tolist(), strict=True))
    assert objects[36.0, 28.0, 8.0] == 1
    assert objects[44.0, 28.0, 8.0] == 0
    assert objects[28.0, 20.0, 8.0] == 1
    assert found.centerness.max() == 1.0


def test_of_objects_at_one_place_the_first_learns() -> None:
    center, box = [36.0, 28.0], [26.0, 18.0, 46.0, 38.0]
    found = assigned([center, center], [box, box])
    assert len(found.objects) == 9
    assert not found.objects.any()


def test_without_objects_nothing_is_learnt() -> None:
    found = assigned([], [])
    assert len(found.points) == len(found.images) == len(found.objects) == 0


@pytest.mark.parametrize(("radius", "count"), [(0.6, 1), (1.2, 9), (1.5, 9), (2.2, 25)])
def test_the_radius_says_how_many_points_learn_an_object(radius: float, count: int) -> None:
    """The centre lies on a point of stride 8."""
    found = assigned([[44.0, 28.0]], [[34.0, 18.0, 54.0, 38.0]], radius=radius)
    assert len(found.points) == count
    assert found.centerness.max() == 1


def by_the_rule(
    centers_px: Tensor, boxes_px: Tensor, radius: float
) -> dict[int, tuple[int, float]]:
    """Object and centerness of each point that learns one, point by point."""
    levels = [stride for stride in STRIDES for _ in range(math.prod(level_size((64, 96), stride)))]
    found = {}
    for point, stride in enumerate(levels):
        u, v = GRID.centers_px[point].tolist()
        low, high = RANGES[STRIDES.index(stride)]
        near = []
        for number, ((x, y), box) in enumerate(
            zip(centers_px.tolist(), boxes_px.tolist(), strict=True)
        ):
            largest = max(u - box[0], v - box[1], box[2] - u, box[3] - v)
            in_square = max(abs(u - x), abs(v - y)) < radius * stride
            if in_square and low < largest <= high:
                near.append((math.hypot(u - x, v - y), number))
        if near:
            distance, number = min(near)
            found[point] = number, math.exp(-2.5 * distance / (math.sqrt(2) * radius * stride))
    return found


@pytest.mark.parametrize("radius", [0.6, 1.0, 1.5])
def test_only_looking_near_centres_finds_what_looking_everywhere_does(radius: float) -> None:
    """Several images at once; centres lie in the image, on its edge and far outside."""
    random = torch.Generator().manual_seed(0)
    images = torch.arange(4).repeat_interleave(6)
    centers = torch.rand(24, 2, generator=random) * torch.tensor([130.0, 90.0]) - 15
    centers[::6] = centers[::6].round()
    centers[5] = torch.tensor([1e7, -1e7])
    sides = 4 + 60 * torch.rand(24, 4, generator=random)
    boxes = torch.cat([centers - sides[:, :2], centers + sides[:, 2:]], dim=1)
    found = PointAssigner((64, 96), STRIDES, RANGES, radius)(centers, boxes, images)
    assert found.images.tolist() == sorted(found.images.tolist())
    for image in range(4):
        own = images == image
        wanted = by_the_rule(centers[own], boxes[own], radius)
        here = found.images == image
        assert found.points[here].tolist() == list(wanted)
        assert (found.objects[here] - 6 * image).tolist() == [n for n, _ in wanted.values()]
        centerness = torch.tensor([value for _, value in wanted.values()])
        torch.testing.assert_close(found.centerness[here], centerness)
