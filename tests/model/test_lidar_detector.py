"""Pillars worked out point by point, and the detector on top of them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mono3d.errors import DataError
from mono3d.model.pillars import PillarNet
from mono3d.structures import Batch
from tests.support.bev import (
    GRID,
    HEADS,
    Head,
    make_bev_batch,
    make_bev_codec,
    make_bev_objective,
    make_lidar_detector,
)
from tests.support.detectors import context_of
from tests.support.frames import surround_frame
from tests.support.host_sync import NoHostSync


def batch_for(head: Head) -> Batch:
    return make_bev_batch([surround_frame(0), surround_frame(1)], make_bev_codec(head))


def slowly(net: PillarNet, points: Tensor, offsets: Tensor) -> Tensor:
    """Pillar by pillar, as the paper tells it."""
    rows, columns = GRID.size
    (x_low, x_high), (y_low, y_high) = GRID.x_range_m, GRID.y_range_m
    z_low, z_high = GRID.z_range_m
    low, size = (
        torch.tensor(v)
        for v in ((x_low, y_low, z_low), (x_high - x_low, y_high - y_low, z_high - z_low))
    )
    frames = len(offsets) - 1
    canvas = torch.zeros(frames, net.layer.out_features, rows, columns)
    for frame in range(frames):
        own = points[offsets[frame] : offsets[frame + 1]]
        pillars: dict[tuple[int, int], list[Tensor]] = {}
        for point in own:
            column = int(torch.floor((point[0] - x_low) / GRID.cell_m))
            row = int(torch.floor((point[1] - y_low) / GRID.cell_m))
            inside = 0 <= column < columns and 0 <= row < rows and z_low <= point[2] < z_high
            if inside:
                pillars.setdefault((row, column), []).append(point)
        for (row, column), members in pillars.items():
            together = torch.stack(members)
            middle = torch.tensor([
                x_low + (column + 0.5) * GRID.cell_m, y_low + (row + 0.5) * GRID.cell_m
            ])  # fmt: skip
            told = torch.cat(
                [
                    (together[:, :3] - low) / size,
                    together[:, 3:],
                    together[:, :3] - together[:, :3].mean(0),
                    together[:, :2] - middle,
                ],
                dim=1,
            )
            canvas[frame, :, row, column] = net.norm(net.layer(told)).relu().amax(0)
    return canvas


def test_pillars_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    net = PillarNet(GRID, channels=6)
    points = torch.rand(300, 4) * torch.tensor([90.0, 60.0, 8.0, 1.0])
    points = points - torch.tensor([45.0, 30.0, 3.0, 0.0])  # a good part lies outside
    offsets = torch.tensor([0, 120, 120, 300])  # the second frame has no points
    found = net(points, offsets)
    torch.testing.assert_close(found, slowly(net, points, offsets), rtol=1e-4, atol=1e-5)
    assert (found[1] == 0).all()
    assert (found[0] > 0).any()


def test_the_order_of_points_does_not_matter() -> None:
    net = PillarNet(GRID, channels=6)
    points = torch.randn(500, 4) * torch.tensor([10.0, 10, 1, 0.1])
    offsets = torch.tensor([0, 500])
    shuffled = points[torch.randperm(500)]
    torch.testing.assert_close(net(points, offsets), net(shuffled, offsets), rtol=1e-4, atol=1e-5)


def test_no_points_at_all_are_an_empty_map() -> None:
    net = PillarNet(GRID, channels=6)
    found = net(torch.zeros(0, 4), torch.tensor([0, 0]))
    assert found.shape == (1, 6, *GRID.size)
    assert (found == 0).all()


@pytest.mark.parametrize("head", HEADS)
def test_it_says_what_it_declares_and_every_weight_learns(head: Head) -> None:
    detector, batch = make_lidar_detector(head), batch_for(head)
    said = detector(batch)
    places = len(GRID) * (4 if head == "anchors" else 1)
    for name, channels in detector.responses.items():
        assert said.responses[name].shape == (2, places, channels), name
    for name, (channels, _) in detector.features.items():
        assert said.features[name].shape == (2, channels, *GRID.size), name
    output = make_bev_objective(make_bev_codec(head, reads_images=False))(
        said, batch, context_of(batch)
    )
    assert "depth" not in output.terms
    torch.stack(list(output.terms.values())).sum().backward()
    unmoved = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unmoved


@pytest.mark.parametrize("head", HEADS)
def test_it_reads_points_alone_and_nothing_waits(head: Head) -> None:
    detector, batch = make_lidar_detector(head).eval(), batch_for(head)
    dark = replace(batch, images=torch.zeros_like(batch.images))
    with NoHostSync():
        first, second = detector(batch).responses, detector(dark).responses
    for name, value in first.items():
        assert torch.equal(second[name], value), name
    with pytest.raises(DataError, match=r"model\.kind=lidar reads LiDAR points: none are given"):
        detector(replace(batch, points=None, point_offsets=None))


def test_pillars_are_as_exact_in_low_precision_training() -> None:
    net = PillarNet(GRID, channels=6)
    points = torch.randn(500, 4) * torch.tensor([10.0, 10, 1, 0.1])
    offsets = torch.tensor([0, 500])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = net(points, offsets)
    assert torch.equal(low, net(points, offsets))
