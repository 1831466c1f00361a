import pytest
import torch
from torch import Tensor

from mono3d.codec.bev_grid import BevGrid
from mono3d.codec.depth import DepthBins
from mono3d.geometry.camera import transform_points, unproject
from mono3d.model.lift import Sights, dense_lift, find_sights, lean_lift
from mono3d.structures import Frame
from tests.support.frames import surround_frame
from tests.support.host_sync import NoHostSync

STRIDE, SIZE = 8, (8, 12)
BINS = DepthBins(count=10, min_m=2.0, max_m=34.0)
GRID = BevGrid(
    x_range_m=(-20.0, 20.0), y_range_m=(-20.0, 20.0), z_range_m=(-1.0, 3.0), cell_m=1.0,
    num_heights=2,
)  # fmt: skip


def sights_of(frames: list[Frame], voxels: Tensor) -> Sights:
    return find_sights(
        voxels,
        torch.stack([frame.projection for frame in frames]),
        torch.stack([frame.bev_from_cam for frame in frames]),
        stride=STRIDE,
        map_size=SIZE,
        bins=BINS,
    )


def maps(cameras: int, frames: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(frames, cameras, 5, *SIZE, generator=random)
    depth = torch.randn(frames, cameras, BINS.count + 1, *SIZE, generator=random).softmax(2)
    return features, depth[:, :, :-1]


def middle_of(frame: Frame, camera: int, row: int, column: int, depth_bin: int) -> Tensor:
    """The place in the bev frame at the middle of a cell and a bin of a camera."""
    place = depth_bin + 0.5
    delta = 2 * (BINS.max_m - BINS.min_m) / (BINS.count * (BINS.count + 1))
    depth = BINS.min_m + delta * place * (place + 1) / 2  # where the law of the bins is half way
    pixel = torch.tensor([column * STRIDE + STRIDE // 2, row * STRIDE + STRIDE // 2]).float()
    there = unproject(pixel, torch.tensor(depth), frame.projection[camera])
    return transform_points(there, frame.bev_from_cam[camera])


@pytest.mark.parametrize("lift", [lean_lift, dense_lift])
@pytest.mark.parametrize(
    ("camera", "row", "column", "depth_bin"), [(0, 3, 6, 4), (3, 4, 7, 0), (5, 2, 5, 9)]
)
def test_a_voxel_in_the_middle_of_a_cell_and_a_bin_has_their_product(
    lift: type[lean_lift], camera: int, row: int, column: int, depth_bin: int
) -> None:
    frame = surround_frame(0)
    voxel = middle_of(frame, camera, row, column, depth_bin)
    features, depth = maps(6)
    sights = sights_of([frame], voxel[None])
    found = lift(features, depth, sights)[0, :, 0]
    wanted = features[0, camera, :, row, column] * depth[0, camera, depth_bin, row, column]
    # Other cameras may see it too, less deep inside.
    others = lift(features * (torch.arange(6) != camera).view(6, 1, 1, 1), depth, sights)[0, :, 0]
    torch.testing.assert_close(found - others, wanted, atol=1e-4, rtol=1e-3)


def test_lean_and_dense_are_equal_for_smooth_depth() -> None:
    """Where probability does not change between neighbours, interpolation and product commute."""
    frames = [surround_frame(seed) for seed in range(2)]
    features, _ = maps(6, frames=2)
    depth = torch.full((2, 6, BINS.count, *SIZE), 0.3)
    sights = sights_of(frames, GRID.voxel_centers().flatten(0, 2))
    lean, dense = lean_lift(features, depth, sights), dense_lift(features, depth, sights)
    # At the rims each factor fades by itself, so the product of the two fades twice.
    inside = torch.ones_like(sights.bins[:, :, None], dtype=torch.bool).squeeze(2)
    last = torch.tensor([SIZE[1] - 1.0, SIZE[0] - 1.0])
    inside &= ((sights.cells >= 0) & (sights.cells <= last)).all(-1)
    inside &= (sights.bins >= 0) & (sights.bins <= BINS.count - 1)
    is_away = sights.bins <= -10
    plain = (inside | is_away).all(1)[:, None].expand_as(lean)
    assert plain.sum() > 1000
    torch.testing.assert_close(lean[plain], dense[plain], atol=1e-5, rtol=1e-4)
    assert dense[plain].abs().max() > 0.1


def test_lean_follows_dense_where_depth_is_sharp() -> None:
    frames = [surround_frame(seed) for seed in range(2)]
    features, depth = maps(6, frames=2)
    sights = sights_of(frames, GRID.voxel_centers().flatten(0, 2))
    pairs = torch.stack([
        lean_lift(features, depth, sights).flatten(), dense_lift(features, depth, sights).flatten()
    ])  # fmt: skip
    assert torch.corrcoef(pairs)[0, 1] > 0.9


def test_a_voxel_asks_the_cameras_that_see_it() -> None:
    frame = surround_frame(1)
    voxels = GRID.voxel_centers().flatten(0, 2)
    sights = sights_of([frame], voxels)
    ahead = (voxels[:, 0] > 8) & (voxels[:, 1].abs() < 2) & (voxels[:, 2] < 1)
    assert (sights.camera[0, 0, ahead] == 0).all()
    behind = (voxels[:, 0] < -8) & (voxels[:, 1].abs() < 2) & (voxels[:, 2] < 1)
    assert (sights.camera[0, 0, behind] == 3).all()


def test_what_no_camera_sees_is_empty() -> None:
    frame = surround_frame(1, cameras=1)
    voxels = GRID.voxel_centers().flatten(0, 2)
    features, depth = maps(1)
    found = lean_lift(features.abs() + 1, depth, sights_of([frame], voxels))
    assert (found[0, :, voxels[:, 0] < 0] == 0).all()
    assert (found[0, 0] > 0).any()


def test_more_cameras_say_the_same_of_what_only_one_sees() -> None:
    frame = surround_frame(1)
    voxels = GRID.voxel_centers().flatten(0, 2)
    features, depth = maps(6)
    one = Frame(**{
        **vars(frame), "images": frame.images[:1], "projection": frame.projection[:1],
        "bev_from_cam": frame.bev_from_cam[:1], "boxes_cam": None, "boxes_bev": None,
    })  # fmt: skip
    whole = lean_lift(features, depth, sights_of([frame], voxels))
    alone = lean_lift(features[:, :1], depth[:, :1], sights_of([one], voxels))
    rest = lean_lift(
        features * (torch.arange(6) > 0).view(6, 1, 1, 1), depth, sights_of([frame], voxels)
    )
    torch.testing.assert_close(alone[0] + rest[0], whole[0], atol=1e-5, rtol=1e-4)


def test_gradients_reach_features_and_depth_and_nothing_waits() -> None:
    frame = surround_frame(2)
    features, depth = (m.requires_grad_() for m in maps(6))
    with NoHostSync():
        sights = sights_of([frame], GRID.voxel_centers().flatten(0, 2))
        lean_lift(features, depth, sights).square().sum().backward()
    assert features.grad is not None
    assert depth.grad is not None
    assert (features.grad.abs().sum((0, 2, 3, 4)) > 0).all()
    assert (depth.grad.abs().sum((0, 2, 3, 4)) > 0).all()


def test_places_are_as_exact_in_low_precision_training() -> None:
    """bfloat16 has 8 bits: a voxel 40 m away would move by a cell."""
    frame = surround_frame(0)
    voxels = GRID.voxel_centers().flatten(0, 2)
    plain = sights_of([frame], voxels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = sights_of([frame], voxels)
        features, depth = maps(6)
        lifted = lean_lift(features, depth, low)
    assert torch.equal(low.cells, plain.cells)
    assert torch.equal(low.bins, plain.bins)
    assert torch.equal(lifted, lean_lift(features, depth, plain))
