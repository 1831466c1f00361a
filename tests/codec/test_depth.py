import math

import pytest
import torch

from mono3d.codec.depth import (
    MAX_DEPTH_M,
    MIN_DEPTH_M,
    LogDepthCodec,
    bin_index,
    lid_bin_edges,
    uniform_bin_centers,
)

CODEC = LogDepthCodec(reference_focal_px=630.0, mean_log_m=3.1, std_log=0.6)


def test_decode_inverts_encode_for_any_camera() -> None:
    generator = torch.Generator().manual_seed(0)
    depth = torch.empty(500).uniform_(MIN_DEPTH_M, MAX_DEPTH_M, generator=generator)
    focal = torch.empty(500).uniform_(200.0, 3000.0, generator=generator)
    torch.testing.assert_close(CODEC.decode(CODEC.encode(depth, focal), focal), depth)


def test_a_value_by_hand() -> None:
    """40 m under twice the reference focal length looks like 20 m: (ln 20 - 3.1) / 0.6."""
    raw = CODEC.encode(torch.tensor([40.0]), torch.tensor([1260.0]))
    assert raw.item() == pytest.approx((math.log(20.0) - 3.1) / 0.6, abs=1e-6)
    zero = CODEC.decode(torch.zeros(1), torch.tensor([630.0]))
    assert zero.item() == pytest.approx(math.exp(3.1), rel=1e-6)


def test_depth_scales_with_the_focal_length_at_a_fixed_output() -> None:
    raw = torch.linspace(-1.5, 0.5, 21)
    focal = torch.full_like(raw, 500.0)
    for scale in (0.5, 1.3, 2.0):
        torch.testing.assert_close(
            CODEC.decode(raw, focal * scale), CODEC.decode(raw, focal) * scale
        )


def test_decoded_depth_is_bounded_and_finite_whatever_the_network_says() -> None:
    depth = CODEC.decode(torch.tensor([-1e4, 1e4]), torch.tensor([630.0]))
    assert depth.tolist() == [MIN_DEPTH_M, MAX_DEPTH_M]


def test_low_precision_outputs_are_decoded_in_float32() -> None:
    raw = torch.tensor([0.5], dtype=torch.bfloat16)
    assert CODEC.decode(raw, torch.tensor([630.0])).dtype == torch.float32


def test_bins_of_pgd() -> None:
    assert uniform_bin_centers(4, 10.0).tolist() == [0, 10, 20, 30]
    assert len(uniform_bin_centers(0, 10.0)) == 0


def test_lid_bins_widen_linearly() -> None:
    """Widths 2, 4, 6 from 1 m to 13 m."""
    edges = lid_bin_edges(3, 1.0, 13.0)
    assert edges.tolist() == [1, 3, 7, 13]
    assert edges.dtype == torch.float32
    many = lid_bin_edges(80, 2.0, 46.8)
    assert many[0] == 2.0
    assert many[-1].item() == pytest.approx(46.8, rel=1e-6)
    widths = many.diff()
    torch.testing.assert_close(widths, widths[0] * torch.arange(1, 81), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("bins", "low", "high"), [(0, 1.0, 2.0), (3, 0.0, 2.0), (3, 2.0, 2.0)])
def test_lid_bins_that_cannot_be(bins: int, low: float, high: float) -> None:
    with pytest.raises(ValueError, match=f"num_bins={bins} min_m={low} max_m={high}"):
        lid_bin_edges(bins, low, high)


def test_a_depth_on_an_edge_belongs_to_the_farther_bin_and_the_ends_hold_the_rest() -> None:
    edges = lid_bin_edges(3, 1.0, 13.0)
    depth = torch.tensor([0.2, 1.0, 2.9, 3.0, 6.9, 7.0, 13.0, 99.0])
    assert bin_index(depth, edges).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
