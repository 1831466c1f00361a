"""The pieces of ADD, worked out by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mono3d.codec.bev_grid import BevGrid
from mono3d.codec.image_objects import TargetObjects, cells_inside, target_objects
from mono3d.codec.map_layout import BOX_NUMBERS, RAY_DEPTHS, MapLayout, grid_layout, image_layout
from mono3d.objectives.distillation.attention import CellAttention, ObjectAttention, averaged
from mono3d.objectives.distillation.encoding import PositionalEncoding
from mono3d.structures import map_tensors
from tests.support.boxes import make_boxes
from tests.support.frames import make_batch, make_codec, surround_frame

PROJECTION = torch.tensor([[[100.0, 0, 48, 0], [0, 100, 32, 0], [0, 0, 1, 0]]])


def objects(*boxes: tuple[float, float, float, float], valid: bool = True) -> TargetObjects:
    """Of one image."""
    count = len(boxes)
    box_px = torch.tensor(boxes)
    return TargetObjects(
        box_px=box_px[None],
        center_px=((box_px[:, :2] + box_px[:, 2:]) / 2)[None],
        depth_m=torch.full((1, count), 10.0),
        labels=torch.zeros(1, count, dtype=torch.int64),
        valid=torch.full((1, count), valid),
    )


def test_cells_inside_are_those_whose_points_are() -> None:
    """Stride 8: points at 4, 12, 20, ..."""
    inside = cells_inside(objects((10.0, 3.0, 21.0, 13.0)), (32, 48), 8).view(1, 4, 6)
    expected = torch.zeros(1, 4, 6, dtype=torch.bool)
    expected[0, 0:2, 1:3] = True
    assert torch.equal(inside, expected)


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        ((13.0, 13.0, 15.0, 14.0), (1, 1)),
        ((0.0, 0.0, 1.0, 1.0), (0, 0)),
        ((47.5, 31.5, 48.0, 32.0), (3, 5)),
    ],
)
def test_a_small_object_has_its_nearest_cell(
    box: tuple[float, float, float, float], cell: tuple[int, int]
) -> None:
    inside = cells_inside(objects(box), (32, 48), 8).view(4, 6)
    assert inside.nonzero().tolist() == [list(cell)]


def test_a_slot_without_an_object_has_no_cell() -> None:
    assert not cells_inside(objects((0.0, 0.0, 48.0, 32.0), valid=False), (32, 48), 8).any()


def test_objects_are_those_that_the_detector_learns() -> None:
    codec = make_codec()
    batch = make_batch([surround_frame(0)], codec)
    found = target_objects(batch, codec.is_learnt)
    slots = set(batch.positives.slot[0, 0][batch.positives.valid[0, 0]].tolist())
    assert slots <= set(found.valid[0].nonzero()[:, 0].tolist())
    unseen = replace(batch.boxes_cam, num_points=torch.zeros_like(batch.boxes_cam.num_points))
    assert not target_objects(replace(batch, boxes_cam=unseen), codec.is_learnt).valid.any()


def layout_of(
    asked: TargetObjects, projection: Tensor = PROJECTION, depth_m: float | None = 20.0
) -> MapLayout:
    """Of an image of 48 x 32 pixels at stride 8."""
    depth = None if depth_m is None else torch.full((1, 24), depth_m)
    return image_layout(asked, image_size=(32, 48), stride=8, depth_m=depth, projection=projection)


def test_a_cell_is_where_its_pixel_and_depth_say() -> None:
    """Cell (1, 2) has pixel (20, 12): 5.6 m to the left and 4 m up at 20 m of depth."""
    layout = layout_of(objects((10.0, 3.0, 21.0, 13.0)))
    wanted = torch.tensor([(-5.6 + 50) / 100, (-4 + 5) / 10, 20 / 70])
    torch.testing.assert_close(layout.places[0, 6 + 2, 0], wanted)
    zoomed = PROJECTION.clone()
    zoomed[:, 0, 0] *= 2
    zoomed[:, 1, 1] *= 2
    halved = layout_of(objects((10.0, 3.0, 21.0, 13.0)), zoomed)
    torch.testing.assert_close(halved.places[0, 8, 0, 0], torch.tensor((-2.8 + 50) / 100))


def test_rays_do_not_look_at_depth() -> None:
    layout = layout_of(objects((10.0, 3.0, 21.0, 13.0)), depth_m=None)
    assert layout.places.shape == (1, 24, RAY_DEPTHS, 3)
    depths = layout.places[0, :, :, 2]
    torch.testing.assert_close(depths, depths[:1].expand_as(depths))
    assert bool((depths.diff(dim=1) > 0).all())


def test_encodings_follow_places_alone() -> None:
    encoding = PositionalEncoding(1, 8)
    near, far = (layout_of(objects((1.0, 1.0, 9.0, 9.0)), depth_m=d).places for d in (10.0, 30.0))
    assert torch.equal(encoding(near), encoding(near.clone()))
    assert not torch.allclose(encoding(near), encoding(far))


def test_objects_on_a_grid_have_the_cells_that_they_stand_on() -> None:
    """A car of 4.2 x 1.8 m across cells of 2 m, turned by a quarter."""
    grid = BevGrid(
        x_range_m=(0.0, 12.0), y_range_m=(-6.0, 6.0), z_range_m=(-1.0, 3.0), cell_m=2.0
    )  # fmt: skip
    boxes = make_boxes([(5.0, 1.0, 0.8), (-30.0, 0.0, 0.8)])
    boxes = replace(
        boxes,
        dims_hwl=torch.tensor([1.6, 1.8, 4.2]).expand(2, 3),
        yaw=torch.tensor([torch.pi / 2, 0.0]),
        valid=torch.tensor([True, False]),
    )
    layout = grid_layout(grid, map_tensors(boxes, lambda values: values[None]))
    assert layout.size == (6, 6)
    assert layout.inside[0, 0].view(6, 6).nonzero().tolist() == [[2, 2], [3, 2], [4, 2]]
    assert not layout.inside[0, 1].any()
    torch.testing.assert_close(layout.where[0, 0], torch.tensor([2 * 5 / 12 - 1, 2 * 7 / 12 - 1]))
    torch.testing.assert_close(layout.places[0, 0, 0], torch.tensor([1 / 12, 1 / 12, 0.0]))
    assert layout.box.shape == (1, 2, BOX_NUMBERS)


def test_averaging_counts_cells_at_the_border_alike() -> None:
    tokens = torch.arange(15.0).view(1, 15, 1)
    found = averaged(tokens, (3, 5), 2)
    assert found.flatten().tolist() == [3.0, 5.0, 6.5, 10.5, 12.5, 14.0]
    assert averaged(tokens, (3, 5), 1) is tokens


def test_a_cell_sees_the_whole_image() -> None:
    torch.manual_seed(0)
    attention = CellAttention(8, 2, averaging=2)
    tokens = torch.randn(1, 24, 8, requires_grad=True)
    attention(tokens, torch.zeros_like(tokens), (4, 6))[0, 0].sum().backward()
    assert tokens.grad is not None
    assert bool((tokens.grad[0].abs().sum(-1) > 0).all())


def test_an_object_asks_from_its_centre() -> None:
    """A change of the features at the centre changes the query; slots do not see each other."""
    torch.manual_seed(0)
    attention = ObjectAttention(8, 2, num_classes=3, averaging=1)
    tokens = torch.randn(1, 24, 8)
    asked = objects((8.0, 8.0, 16.0, 16.0), (32.0, 16.0, 40.0, 24.0))
    found = attention(tokens, torch.zeros_like(tokens), layout_of(asked))
    first = objects((8.0, 8.0, 16.0, 16.0))
    alone = attention(tokens, torch.zeros_like(tokens), layout_of(first))
    torch.testing.assert_close(found[:, :1], alone)
    other = replace(asked, labels=torch.tensor([[0, 2]]))
    changed = attention(tokens, torch.zeros_like(tokens), layout_of(other))
    torch.testing.assert_close(changed[:, 0], found[:, 0])
    assert not torch.allclose(changed[:, 1], found[:, 1])


def test_depth_of_cells_is_that_of_the_level_and_between_its_points_elsewhere() -> None:
    codec, size = make_codec(), (64, 96)
    counts = [8 * 12, 4 * 6, 2 * 3]
    depth = torch.cat([torch.full((1, n), float(10 * i + 10)) for i, n in enumerate(counts)], 1)
    for stride, value in ((8, 10.0), (16, 20.0), (32, 30.0), (4, 10.0), (64, 30.0)):
        found = codec.depth_of_cells({"depth_m": depth}, size, stride)
        assert found.shape == (1, -(-64 // stride) * -(-96 // stride))
        assert bool((found == value).all())
