import torch

from mono3d.data.lidar import depth_map

CAMERA = torch.tensor([[10.0, 0, 4, 0], [0, 10.0, 3, 0], [0, 0, 1, 0]])
# The camera looks along the bev frame's x axis from 1 m above its origin.
POSE = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]])


def test_each_pixel_holds_its_nearest_point() -> None:
    """Two metres left of the axis at 10 m depth is two pixels left of the middle (4, 3)."""
    points = torch.tensor([
        [10.0, 2.0, 1.0, 0.5],
        [30.0, 6.0, 1.0, 0.5],  # behind the first, on the same ray
        [20.0, 0.0, 3.0, 0.5],  # 2 m above the camera: one pixel up
    ])  # fmt: skip
    depth = depth_map(points, POSE, CAMERA, (6, 8))
    assert depth.shape == (6, 8)
    assert depth[3, 2] == 10.0
    assert depth[2, 4] == 20.0
    assert depth.count_nonzero() == 2


def test_points_behind_or_outside_leave_nothing() -> None:
    points = torch.tensor([[-10.0, 0, 1, 0], [10.0, 9.0, 1, 0], [10.0, 0, 9, 0], [0.0, 0, 1, 0]])
    assert depth_map(points, POSE, CAMERA, (6, 8)).eq(0).all()
    assert depth_map(torch.zeros(0, 4), POSE, CAMERA, (6, 8)).eq(0).all()
