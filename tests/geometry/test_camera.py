"""Camera: projecting, unprojecting, and projections of changed images."""

import math

import torch
from torch import Tensor

from mono3d.geometry.camera import (
    MIN_DEPTH_M,
    affine_projection,
    focal_px,
    project,
    transform_points,
    unproject,
)

PINHOLE = torch.tensor([[700.0, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]], dtype=torch.float64)
# Offsets as in a KITTI P2: a camera 6 cm beside the reference one, and 3 mm behind it.
KITTI_P2 = torch.tensor(
    [[721.5, 0, 609.6, 44.9], [0, 721.5, 172.9, 0.2], [0, 0, 1, 0.0027]], dtype=torch.float64
)
# Skewed, unequal focal lengths, offsets.
GENERAL = torch.tensor(
    [[500.0, 2.5, 310, -120], [0, 650, 250, 33], [0, 0, 1, -0.02]], dtype=torch.float64
)
AFFINE = torch.tensor([[-0.55, 0.02, 660.0], [0.01, 0.6, -21.5]], dtype=torch.float64)


def _points(count: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    spread = torch.tensor([40.0, 8.0, 70.0], dtype=torch.float64)
    shift = torch.tensor([-20.0, -4.0, 0.5], dtype=torch.float64)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) * spread + shift


def test_project_by_hand() -> None:
    pixel = project(torch.tensor([2.0, -1.0, 10.0], dtype=torch.float64), PINHOLE)
    torch.testing.assert_close(pixel, torch.tensor([740.0, 110.0], dtype=torch.float64))


def test_project_divides_by_the_whole_last_row() -> None:
    pixel = project(torch.tensor([2.0, 1.0, 10.0], dtype=torch.float64), KITTI_P2)
    u = (721.5 * 2 + 609.6 * 10 + 44.9) / 10.0027
    v = (721.5 * 1 + 172.9 * 10 + 0.2) / 10.0027
    torch.testing.assert_close(pixel, torch.tensor([u, v], dtype=torch.float64))


def test_project_is_finite_on_and_behind_the_camera_plane() -> None:
    points = torch.tensor([[1.0, 1, 0], [1, 1, -5], [0, 0, MIN_DEPTH_M / 2]], dtype=torch.float64)
    assert project(points, PINHOLE).isfinite().all()


def test_unproject_inverts_project() -> None:
    points = _points()
    for projection in (PINHOLE, KITTI_P2, GENERAL):
        back = unproject(project(points, projection), points[:, 2], projection)
        torch.testing.assert_close(back, points)


def test_project_inverts_unproject_for_pixels_outside_the_image_too() -> None:
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand(100, 2, generator=generator, dtype=torch.float64) * 3000 - 1000
    depth = torch.linspace(0.5, 90, 100, dtype=torch.float64)
    for projection in (PINHOLE, KITTI_P2, GENERAL):
        back = project(unproject(pixels, depth, projection), projection)
        torch.testing.assert_close(back, pixels)


def test_affine_projection_moves_pixels_as_the_image_does() -> None:
    points = _points()
    for projection in (PINHOLE, KITTI_P2, GENERAL):
        moved = project(points, affine_projection(projection, AFFINE))
        pixels = project(points, projection)
        torch.testing.assert_close(moved, pixels @ AFFINE[:, :2].T + AFFINE[:, 2])


def test_unproject_inverts_project_after_a_resize_crop_and_flip() -> None:
    points = _points()
    projection = affine_projection(KITTI_P2, AFFINE)
    back = unproject(project(points, projection), points[:, 2], projection)
    torch.testing.assert_close(back, points)


def test_one_projection_a_camera_broadcasts_over_its_points() -> None:
    points = _points(24).reshape(2, 12, 3)
    projections = torch.stack([PINHOLE, KITTI_P2])
    pixels = project(points, projections[:, None])
    torch.testing.assert_close(pixels[0], project(points[0], PINHOLE))
    torch.testing.assert_close(pixels[1], project(points[1], KITTI_P2))
    back = unproject(pixels, points[..., 2], projections[:, None])
    torch.testing.assert_close(back, points)


def test_no_points_give_no_pixels() -> None:
    assert project(torch.zeros(0, 3), PINHOLE.float()).shape == (0, 2)
    assert unproject(torch.zeros(0, 2), torch.zeros(0), PINHOLE.float()).shape == (0, 3)


def test_focal_is_the_geometric_mean_and_scales_with_the_image() -> None:
    torch.testing.assert_close(focal_px(GENERAL).item(), math.sqrt(500 * 650))
    flip_and_halve = torch.tensor([[-0.5, 0, 620], [0, 0.5, 0]], dtype=torch.float64)
    halved = focal_px(affine_projection(GENERAL, flip_and_halve))
    torch.testing.assert_close(halved, focal_px(GENERAL) / 2)


def test_transform_points_turns_then_shifts() -> None:
    # bev (x forward, y left, z up) from a level camera 1.6 m up and 1.5 m ahead of the origin.
    bev_from_cam = torch.tensor(
        [[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]], dtype=torch.float64
    )
    point = transform_points(torch.tensor([2.0, 1.6, 10.0], dtype=torch.float64), bev_from_cam)
    torch.testing.assert_close(point, torch.tensor([11.5, -2.0, 0.0], dtype=torch.float64))
    points = _points()
    there_and_back = transform_points(
        transform_points(points, bev_from_cam), torch.linalg.inv(bev_from_cam)
    )
    torch.testing.assert_close(there_and_back, points)
