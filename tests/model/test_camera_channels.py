"""Viewing rays and the depth of the ground under every pixel, from calibration alone."""

import pytest
import torch
from torch import Tensor

from mono3d.codec.depth import MAX_DEPTH_M, LogDepthCodec
from mono3d.geometry.camera import focal_px, project, transform_points
from mono3d.model.camera_channels import GroundChannels, RayChannels

SIZE = (64, 96)
CODE = LogDepthCodec(reference_focal_px=100.0, mean_log_m=3.0, std_log=0.7)


def camera(seed: int) -> tuple[Tensor, Tensor]:
    """A camera matrix, and a pose 1 to 2 m above z = 0 that pitches, rolls and looks sideways."""
    random = torch.Generator().manual_seed(seed)
    focal = float(60 + 60 * torch.rand((), generator=random))
    projection = torch.tensor([[focal, 0, 50.0, 0], [0, 1.1 * focal, 30.0, 0], [0, 0, 1, 0]])
    forward = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    twist = torch.linalg.matrix_exp(_skew(0.1 * torch.randn(3, generator=random)))
    pose = torch.eye(4)
    pose[:3, :3] = twist @ forward
    pose[:3, 3] = torch.tensor([1.5, 0.3, 1.0]) + torch.rand(3, generator=random)
    return projection, pose


def _skew(vector: Tensor) -> Tensor:
    x, y, z = vector.tolist()
    return torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0.0]])


def test_rays_are_the_tangents_of_the_viewing_directions() -> None:
    """The point in column 2, row 1 of stride 8 is at pixel (20, 12)."""
    projection = torch.tensor([[[80.0, 0, 48, 0], [0, 100.0, 30, 0], [0, 0, 1, 0]]])
    pose = torch.eye(4)[None]
    rays = RayChannels()(projection, pose, SIZE, 8)
    assert rays.shape == (1, RayChannels.count, 8, 12)
    torch.testing.assert_close(rays[0, :, 1, 2], torch.tensor([(20 - 48) / 80, (12 - 30) / 100]))
    assert RayChannels()(projection, pose, (70, 100), 8).shape == (1, 2, 9, 13)


@pytest.mark.parametrize("stride", [4, 8])
def test_points_of_a_stride_read_the_ground_of_their_pixels(stride: int) -> None:
    projection, pose = camera(2)
    ground = GroundChannels(depth=CODE, height_m=0.0)
    every = ground(projection[None], pose[None], SIZE, 1)
    coarse = ground(projection[None], pose[None], SIZE, stride)
    first = stride // 2
    torch.testing.assert_close(coarse, every[..., first::stride, first::stride])


@pytest.mark.parametrize("height_m", [0.0, -1.7])
@pytest.mark.parametrize("seed", range(4))
def test_points_on_the_ground_have_the_depth_of_their_pixel(seed: int, height_m: float) -> None:
    projection, pose = camera(seed)
    random = torch.Generator().manual_seed(seed)
    spread = torch.rand(500, 2, generator=random) * torch.tensor([40.0, 30]) - torch.tensor([0, 15])
    on_ground = torch.cat([spread, torch.full((500, 1), height_m)], dim=1)
    points_cam = transform_points(on_ground, torch.linalg.inv(pose))
    in_front = points_cam[points_cam[:, 2] > 1]
    pixels = project(in_front, projection)
    inside = ((pixels >= 0) & (pixels < torch.tensor([95.0, 63.0]))).all(1)
    pixels, depth = pixels[inside], in_front[inside, 2]
    assert len(depth) > 50
    channels = GroundChannels(depth=CODE, height_m=height_m)(projection[None], pose[None], SIZE, 1)
    assert channels.shape == (1, GroundChannels.count, *SIZE)
    focal = focal_px(projection)
    # Inverse depth is linear in the pixel, so it can be read between pixels.
    inverse = 1 / CODE.decode(channels[0, 0], focal)
    place = (pixels / torch.tensor([95.0, 63.0]) * 2 - 1)[None, None]
    read = torch.nn.functional.grid_sample(inverse[None, None], place, align_corners=True)
    is_near = depth < 40
    assert is_near.sum() > 20
    torch.testing.assert_close(1 / read[0, 0, 0][is_near], depth[is_near], rtol=1e-3, atol=0)


def test_the_sky_has_the_greatest_depth_and_no_infinity() -> None:
    projection, pose = camera(0)
    pose[:3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    channels = GroundChannels(depth=CODE, height_m=0.0)(projection[None], pose[None], SIZE, 1)[0]
    assert channels.isfinite().all()
    farthest = CODE.encode(torch.tensor(MAX_DEPTH_M), focal_px(projection))
    assert torch.allclose(channels[0, :31], farthest)
    assert (channels[0, 35:] < farthest).all()
    assert (channels[2, :30] < 0).all()
    assert (channels[2, 31:] > 0).all()


def test_a_mirrored_camera_has_mirrored_channels() -> None:
    projection, pose = camera(1)
    mirror_cam, mirror_bev = torch.diag(torch.tensor([-1.0, 1, 1, 1])), torch.eye(4)
    mirror_bev[1, 1] = -1
    mirrored = projection.clone()
    mirrored[0, 2] = SIZE[1] - 1 - projection[0, 2]
    ground = GroundChannels(depth=CODE, height_m=0.0)
    plain = ground(projection[None], pose[None], SIZE, 1)[0].flip(-1)
    other = ground(mirrored[None], (mirror_bev @ pose @ mirror_cam)[None], SIZE, 1)[0]
    torch.testing.assert_close(other[0], plain[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other[1], -plain[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other[2], plain[2], rtol=1e-4, atol=1e-4)
