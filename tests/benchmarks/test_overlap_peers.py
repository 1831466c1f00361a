"""Peers of the overlap benchmark compute what they are compared with."""

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.iou import (
    Work,
    bare_loss,
    boxes,
    kept_bytes,
    our_area,
    our_loss,
    peak_bytes,
    peer_area,
    peer_loss,
)
from benchmarks.support.overlap_peers import clipped_areas, shapely_areas, sorted_area
from mono3d.geometry.box_iou import overlap_area
from mono3d.geometry.fast_iou import pairwise_overlap_area


def footprints(count: int, *, seed: int) -> np.ndarray:
    """Rectangles near each other: apart, crossing and inside one another."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.uniform(-1, 2, (count, 2)))
    return np.column_stack([
        random.uniform(-4, 4, (count, 2)), sizes, random.uniform(-4, 4, count)
    ])  # fmt: skip


def test_all_ways_to_an_overlap_agree() -> None:
    a, b = footprints(25, seed=0), footprints(30, seed=1)
    expected = shapely_areas(a, b)
    assert 0.2 < (expected > 0).mean() < 0.9
    np.testing.assert_allclose(clipped_areas(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(pairwise_overlap_area(a, b), expected, atol=1e-6)
    pairs = [torch.from_numpy(np.repeat(a, 30, axis=0)), torch.from_numpy(np.tile(b, (25, 1)))]
    flat = torch.from_numpy(expected.ravel())
    torch.testing.assert_close(sorted_area(*pairs), flat, rtol=0, atol=1e-6)
    torch.testing.assert_close(overlap_area(*pairs), flat, rtol=0, atol=1e-6)


def gradient(work: Work, said: Tensor, true: Tensor) -> Tensor:
    leaf = said.clone().requires_grad_()
    work(leaf, true).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize(("ours", "peer"), [(our_area, peer_area), (our_loss, peer_loss)])
def test_values_and_gradients_of_both_ways_agree(ours: Work, peer: Work) -> None:
    said, true = (values.double() for values in boxes(200))
    torch.testing.assert_close(ours(said, true), peer(said, true), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        gradient(ours, said, true), gradient(peer, said, true), rtol=1e-6, atol=1e-6
    )


def test_the_bare_formula_is_the_loss_of_boxes_that_overlap() -> None:
    said, true = (values.double() for values in boxes(200))
    ours, bare = our_loss(said, true), bare_loss(said, true)
    overlaps = our_area(said, true) > 1.0
    torch.testing.assert_close(ours[overlaps], bare[overlaps], rtol=0, atol=1e-3)
    assert overlaps.sum() > 150


def test_memory_counts_tensors() -> None:
    def work(said: Tensor, true: Tensor) -> Tensor:
        return (said * true).exp().sum(1)

    pair = (torch.ones(1000, 7), torch.ones(1000, 7))
    size = 1000 * 7 * 4
    # Kept are the true boxes and the exponential (the predicted boxes for no one: `true` needs no
    # gradient). At most there are the clone, the product and the exponential, and what follows.
    assert kept_bytes(work, pair) == 2 * size
    assert 3 * size <= peak_bytes(work, pair) <= 6 * size
