import torch
from torch.nn import functional as F

from mono3d.model.spatial_alignment import (
    DeformableConv,
    FeatureFusion,
    ResidualStream,
    SpatialAlignment,
)
from tests.support.host_sync import NoHostSync


def test_without_offsets_it_is_an_ordinary_convolution() -> None:
    torch.manual_seed(0)
    conv, bev = DeformableConv(16), torch.randn(2, 16, 7, 9)
    wanted = F.conv2d(bev, conv.weight, padding=1)
    torch.testing.assert_close(conv(bev), wanted, atol=1e-5, rtol=1e-4)


def test_offsets_move_what_is_read() -> None:
    """All taps one cell to the right read the map moved one cell to the left."""
    torch.manual_seed(0)
    conv, bev = DeformableConv(16), torch.randn(1, 16, 7, 9)
    with torch.no_grad():
        assert conv.offsets.bias is not None
        conv.offsets.bias[0::2] = 1.0
    moved = F.pad(bev[..., 1:], (0, 1))
    found, wanted = conv(bev), F.conv2d(moved, conv.weight, padding=1)
    torch.testing.assert_close(found[..., 1:-2], wanted[..., 1:-2], atol=1e-5, rtol=1e-4)


def test_offsets_learn() -> None:
    torch.manual_seed(0)
    conv, bev = DeformableConv(16), torch.randn(1, 16, 7, 9)
    conv(bev).square().sum().backward()
    assert conv.offsets.weight.grad is not None
    assert conv.offsets.weight.grad.abs().sum() > 0


def test_shapes_stay_and_nothing_waits() -> None:
    alignment, fusion = SpatialAlignment(16), FeatureFusion(16)
    bev = torch.randn(2, 16, 10, 14)
    with NoHostSync():
        aligned = alignment(bev)
        joined = fusion(bev, aligned)
    assert aligned.shape == joined.shape == bev.shape


def test_both_streams_come_from_the_same_voxels() -> None:
    stream = ResidualStream(24, 16)
    voxels, visual = torch.randn(1, 24, 10, 14), torch.randn(1, 16, 10, 14)
    residual, joined = stream(voxels, visual)
    again, other = stream(voxels, visual * 2)
    torch.testing.assert_close(residual, again)
    assert not torch.equal(joined, other)
