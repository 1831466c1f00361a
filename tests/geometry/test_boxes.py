"""Boxes: corners in two frames, hulls in the image, headings from one frame to the other."""

import math

import pytest
import torch
from torch import Tensor

from mono3d.geometry.angles import wrap
from mono3d.geometry.boxes import (
    BOX_EDGES,
    FRONT_FACE,
    corners_bev,
    corners_cam,
    cut_at_camera_plane,
    forward_bev,
    forward_cam,
    hull_2d,
    yaw_bev_from_cam,
    yaw_cam_from_bev,
)
from mono3d.geometry.camera import MIN_DEPTH_M, transform_points

DTYPE = torch.float64
IMAGE_SIZE = (400, 600)
CAMERA = torch.tensor([[500.0, 0, 300, 0], [0, 500, 200, 0], [0, 0, 1, 0]], dtype=DTYPE)


def _tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=DTYPE)


def _random_boxes(count: int = 100) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    centers = torch.randn(count, 3, generator=generator, dtype=DTYPE) * 20
    dims_hwl = torch.rand(count, 3, generator=generator, dtype=DTYPE) * 5 + 0.3
    yaw = (torch.rand(count, generator=generator, dtype=DTYPE) - 0.5) * 2 * math.pi
    return centers, dims_hwl, yaw


def _level_bev_from_cam(heading: float) -> Tensor:
    """A level camera that looks `heading` radians to the left of the bev frame's x axis."""
    cos, sin = math.cos(heading), math.sin(heading)
    return _tensor([sin, 0, cos, 1.2], [-cos, 0, sin, -0.3], [0, -1, 0, 1.6], [0, 0, 0, 1])


def test_corners_of_a_box_that_drives_away_from_the_camera() -> None:
    # rotation_y = -pi/2 faces +z: front at z = 12, its right side at x = +1, bottom at y = +0.75.
    corners = corners_cam(_tensor(0, 0, 10), _tensor(1.5, 2, 4), _tensor(-math.pi / 2)[0])
    expected = _tensor(
        [1, 0.75, 12], [-1, 0.75, 12], [-1, 0.75, 8], [1, 0.75, 8],
        [1, -0.75, 12], [-1, -0.75, 12], [-1, -0.75, 8], [1, -0.75, 8],
    )  # fmt: skip
    torch.testing.assert_close(corners, expected)


def test_corners_of_a_box_that_drives_along_x_in_bev() -> None:
    # yaw = 0 faces +x: front at x = 12, right at y = -1, bottom at z = -0.75.
    corners = corners_bev(_tensor(10, 0, 0), _tensor(1.5, 2, 4), torch.zeros((), dtype=DTYPE))
    expected = _tensor(
        [12, -1, -0.75], [12, 1, -0.75], [8, 1, -0.75], [8, -1, -0.75],
        [12, -1, 0.75], [12, 1, 0.75], [8, 1, 0.75], [8, -1, 0.75],
    )  # fmt: skip
    torch.testing.assert_close(corners, expected)


@pytest.mark.parametrize("make_corners", [corners_cam, corners_bev])
def test_corners_have_the_centre_the_volume_and_the_heading_of_their_box(make_corners) -> None:  # type: ignore[no-untyped-def]
    centers, dims_hwl, yaw = _random_boxes()
    corners = make_corners(centers, dims_hwl, yaw)
    torch.testing.assert_close(corners.mean(-2), centers)
    # Corner 0 and its three neighbours span the cuboid.
    sides = torch.stack([corners[:, k] - corners[:, 0] for k in (1, 3, 4)], dim=-2)
    torch.testing.assert_close(torch.linalg.det(sides).abs(), dims_hwl.prod(-1))
    forward = (forward_cam if make_corners is corners_cam else forward_bev)(yaw)
    nose = corners[:, FRONT_FACE].mean(-2) - centers
    torch.testing.assert_close(nose, forward * dims_hwl[:, 2:] / 2)


def test_edges_have_the_lengths_of_the_sides() -> None:
    corners = corners_cam(_tensor(3, 1, 20), _tensor(1.5, 2, 4), _tensor(0.7)[0])
    pairs = torch.tensor(BOX_EDGES)
    lengths = (corners[pairs[:, 0]] - corners[pairs[:, 1]]).norm(dim=-1)
    expected = _tensor(2, 4, 2, 4, 2, 4, 2, 4, 1.5, 1.5, 1.5, 1.5)
    torch.testing.assert_close(lengths, expected)


@pytest.mark.parametrize("heading", [0.0, 0.9, -2.2, math.pi])
def test_corners_agree_in_both_frames_for_level_cameras(heading: float) -> None:
    centers, dims_hwl, yaw = _random_boxes()
    bev_from_cam = _level_bev_from_cam(heading)
    moved = transform_points(corners_cam(centers, dims_hwl, yaw), bev_from_cam)
    yaw_bev = yaw_bev_from_cam(yaw, bev_from_cam)
    same = corners_bev(transform_points(centers, bev_from_cam), dims_hwl, yaw_bev)
    torch.testing.assert_close(moved, same)


def test_heading_changes_frame_by_hand() -> None:
    # Camera along the vehicle's x: away from the camera (rotation_y = -pi/2) is bev yaw 0, and
    # towards the camera's right (rotation_y = 0) is bev yaw -pi/2.
    yaw = yaw_bev_from_cam(_tensor(-math.pi / 2, 0), _level_bev_from_cam(0.0))
    torch.testing.assert_close(yaw, _tensor(0, -math.pi / 2))


@pytest.mark.parametrize("heading", [0.0, 1.1, -2.5])
def test_headings_are_inverse_for_level_cameras(heading: float) -> None:
    _, _, yaw = _random_boxes()
    bev_from_cam = _level_bev_from_cam(heading)
    back = yaw_cam_from_bev(yaw_bev_from_cam(yaw, bev_from_cam), torch.linalg.inv(bev_from_cam))
    torch.testing.assert_close(wrap(back - yaw), torch.zeros_like(yaw), atol=1e-12, rtol=0)


def test_heading_error_of_a_pitched_camera_is_second_order() -> None:
    _, _, yaw = _random_boxes()
    errors = []
    for pitch in (0.02, 0.04):
        tilt = torch.eye(4, dtype=DTYPE)
        tilt[1:3, 1:3] = _tensor(
            [math.cos(pitch), -math.sin(pitch)], [math.sin(pitch), math.cos(pitch)]
        )
        bev_from_cam = _level_bev_from_cam(0.5) @ tilt
        back = yaw_cam_from_bev(yaw_bev_from_cam(yaw, bev_from_cam), torch.linalg.inv(bev_from_cam))
        errors.append(wrap(back - yaw).abs().max().item())
    assert errors[0] < 0.02**2
    assert errors[1] / errors[0] == pytest.approx(4, rel=0.05)


def test_hull_of_a_box_before_the_camera_by_hand() -> None:
    # 2 m wide, 1.5 m high, its near face 8 m away: 500 * 1 / 8 and 500 * 0.75 / 8 pixels.
    corners = corners_cam(_tensor(0, 0, 10), _tensor(1.5, 2, 4), _tensor(-math.pi / 2)[0])
    hull, inside = hull_2d(corners, CAMERA, IMAGE_SIZE)
    expected = _tensor(300 - 62.5, 200 - 46.875, 300 + 62.5, 200 + 46.875)
    torch.testing.assert_close(hull, expected)
    assert inside


def test_hull_is_clipped_to_the_image() -> None:
    corners = corners_cam(_tensor(5, 0, 10), _tensor(1.5, 2, 4), _tensor(-math.pi / 2)[0])
    hull, inside = hull_2d(corners, CAMERA, IMAGE_SIZE)
    assert inside
    assert hull[0].item() == pytest.approx(300 + 500 * 4 / 12)
    assert hull[2].item() == IMAGE_SIZE[1]


@pytest.mark.parametrize(
    "center", [(0, 0, -10), (30, 0, 10), (-30, 0, 10), (0, 20, 10), (0, -20, 10)]
)
def test_box_behind_or_beside_the_image_is_not_inside(center: tuple[float, ...]) -> None:
    corners = corners_cam(_tensor(*center), _tensor(1.5, 2, 4), _tensor(0.3)[0])
    hull, inside = hull_2d(corners, CAMERA, IMAGE_SIZE)
    assert not inside
    assert hull.isfinite().all()


def test_box_across_the_camera_plane_has_the_hull_of_its_front_part() -> None:
    # Beside the camera, x from 1 to 3, z from -4 to 4: its far end shows at u = 300 + 500 * 1 / 4.
    corners = corners_cam(_tensor(2, 0, 0), _tensor(1.5, 2, 8), _tensor(-math.pi / 2)[0])
    hull, inside = hull_2d(corners, CAMERA, IMAGE_SIZE)
    assert inside
    torch.testing.assert_close(hull, _tensor(425, 0, 600, 400))


def test_edges_end_on_the_camera_plane_and_only_where_they_cross_it() -> None:
    corners = corners_cam(_tensor(2, 0, 0), _tensor(1.5, 2, 8), _tensor(-math.pi / 2)[0])
    edges, in_front = cut_at_camera_plane(corners[torch.tensor(BOX_EDGES)])
    # The four long edges cross; of the others, the four of the front face lie before the camera.
    assert in_front.sum() == 8
    assert edges[in_front][..., 2].min().item() == pytest.approx(MIN_DEPTH_M)
    crossing = in_front & (edges[..., 2].amin(-1) < 1)
    assert crossing.nonzero()[:, 0].tolist() == [1, 3, 5, 7]
    torch.testing.assert_close(edges[crossing][..., 0].diff(dim=-1).abs().max(), _tensor(0)[0])


def test_hull_of_many_cameras_equals_the_hull_of_each() -> None:
    centers, dims_hwl, yaw = _random_boxes(12)
    corners = corners_cam(centers, dims_hwl, yaw).reshape(2, 6, 8, 3)
    cameras = torch.stack([CAMERA, CAMERA * _tensor([1.3], [1.3], [1])])
    hulls, inside = hull_2d(corners, cameras[:, None], IMAGE_SIZE)
    for index in range(2):
        hull, seen = hull_2d(corners[index], cameras[index], IMAGE_SIZE)
        torch.testing.assert_close(hulls[index], hull)
        assert (inside[index] == seen).all()


def test_no_boxes_have_no_corners_and_no_hulls() -> None:
    empty = torch.zeros(0, 3, dtype=DTYPE)
    corners = corners_cam(empty, empty, torch.zeros(0, dtype=DTYPE))
    hull, inside = hull_2d(corners, CAMERA, IMAGE_SIZE)
    assert corners.shape == (0, 8, 3)
    assert hull.shape == (0, 4)
    assert inside.shape == (0,)
