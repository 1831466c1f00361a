"""Depth as a network says it: focal-normalised log depth, and bins (uniform or LID).

A camera of twice the focal length sees the same car at twice the depth in the same pixels. The
raw output x therefore stands for depth per focal length: d = f / f_ref * exp(std * x + mean), and
one network serves cameras, crops and resizes of any focal length (compare DD3D,
arXiv:2108.06417, which scales linear depth by pixel size).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

MIN_DEPTH_M = 0.5
MAX_DEPTH_M = 100.0


@dataclass(frozen=True, kw_only=True)
class LogDepthCodec:
    """Focal-normalised log depth with an affine normalisation to mean 0, deviation 1."""

    reference_focal_px: float
    """Focal length at which `mean_log_m` and `std_log` hold."""
    mean_log_m: float
    """Mean of ln(depth in metres) of the training objects at the reference focal length."""
    std_log: float
    """Standard deviation of the same."""

    def encode(
        self, depth_m: Float[Tensor, "*n"], focal_px: Float[Tensor, "*#n"]
    ) -> Float[Tensor, "*n"]:
        """Raw value of a depth under a focal length."""
        at_reference = depth_m.clamp(MIN_DEPTH_M, MAX_DEPTH_M) * self.reference_focal_px / focal_px
        return (at_reference.log() - self.mean_log_m) / self.std_log

    def decode(
        self, raw: Float[Tensor, "*n"], focal_px: Float[Tensor, "*#n"]
    ) -> Float[Tensor, "*n"]:
        """Depth in metres of a raw value, between MIN_DEPTH_M and MAX_DEPTH_M."""
        at_reference = torch.exp(self.std_log * raw.float() + self.mean_log_m)
        return (at_reference * focal_px / self.reference_focal_px).clamp(MIN_DEPTH_M, MAX_DEPTH_M)


def uniform_bin_centers(num_bins: int, width_m: float) -> Float[Tensor, " bins"]:
    """Depths that PGD's classifier chooses from: 0, width, 2 * width, ... metres.

    Source: PGD (arXiv:2107.14160), section 3.2: unit 10 m, expectation over the bins.
    """
    return torch.arange(num_bins) * width_m


def lid_bin_edges(
    num_bins: int, min_m: float, max_m: float, device: torch.device | None = None
) -> Float[Tensor, " edges"]:
    """Edges of linearly increasing depth bins (LID): near bins narrow, far bins wide.

    Args:
        num_bins: Number of bins, at least 1.
        min_m: Near edge of the first bin, metres, > 0.
        max_m: Far edge of the last bin, metres, > min_m.
        device: Where they are made; None is the CPU.

    Returns:
        num_bins + 1 strictly increasing edges in metres, float32.

    Raises:
        ValueError: If num_bins < 1 or not 0 < min_m < max_m.

    Source:
        Reading et al., CaDDN, CVPR 2021 (arXiv:2103.01100). Ours returns edges, not centres, so
        that encode and decode share one table.
    """
    if num_bins < 1 or not 0 < min_m < max_m:
        given = f"{num_bins=} {min_m=} {max_m=}"
        raise ValueError(f"need num_bins >= 1 and 0 < min_m < max_m, got {given}")
    index = torch.arange(num_bins + 1, dtype=torch.float64, device=device)
    return (min_m + (max_m - min_m) * index * (index + 1) / (num_bins * (num_bins + 1))).float()


def bin_index(depth_m: Float[Tensor, "*n"], edges_m: Float[Tensor, " edges"]) -> Tensor:
    """Bin of each depth (int64), clamped to the first and last bin."""
    return torch.bucketize(depth_m, edges_m[1:-1].to(depth_m.device), right=True)


@dataclass(frozen=True, kw_only=True)
class DepthBins:
    """LID bins with one more for what lies outside of their range, or is not known.

    Source: CaDDN (arXiv:2103.01100), section 3.1: bin widths grow linearly with depth. With
    delta = 2 (max - min) / (n (n + 1)), bin i begins at min + delta i (i + 1) / 2.
    """

    count: int
    """Bins within the range; the one for the rest has this index."""
    min_m: float
    max_m: float

    def __post_init__(self) -> None:
        """Raise ValueError on an impossible range."""
        lid_bin_edges(self.count, self.min_m, self.max_m)

    @property
    def edges_m(self) -> Float[Tensor, " edges"]:
        """`count + 1` edges, on the CPU."""
        return lid_bin_edges(self.count, self.min_m, self.max_m)

    @property
    def centers_m(self) -> Float[Tensor, " bins"]:
        """Mean of each bin's edges, on the CPU."""
        edges = self.edges_m
        return (edges[1:] + edges[:-1]) / 2

    def place(self, depth_m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Where depths lie among the bins: bin i reaches from i to i + 1. Negative below them."""
        delta = 2 * (self.max_m - self.min_m) / (self.count * (self.count + 1))
        beyond = (depth_m - self.min_m) / delta
        # Below the range the law has no root; a line with the slope of its start goes on from it.
        root = (1 + 8 * beyond.clamp(min=0)).sqrt() / 2 - 0.5
        return torch.where(beyond > 0, root, beyond)

    def index(self, depth_m: Float[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
        """Bin of each depth; `count` where it is outside of the range (as 0, "unknown", is)."""
        place = self.place(depth_m).floor().long()
        is_inside = (depth_m >= self.min_m) & (depth_m < self.max_m)
        return torch.where(is_inside, place.clamp(0, self.count - 1), self.count)
