"""Both codes of boxes on a grid: what is encoded comes back, and who learns what."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mono3d.codec.anchors import ROTATIONS, AnchorCodec
from mono3d.codec.bev_center import BevCenterCodec
from mono3d.codec.bev_codec import is_seen
from mono3d.codec.box_frames import boxes_in_bev, boxes_in_camera
from mono3d.codec.detector_codec import DetectorCodec
from mono3d.geometry.box_iou import footprints_bev
from mono3d.geometry.fast_iou import pairwise_bev_iou
from mono3d.structures import Batch, Boxes3D, map_tensors
from tests.support.bev import (
    GRID,
    HEADS,
    MEAN_DIMS,
    Head,
    make_bev_batch,
    make_bev_codec,
    make_bev_detector,
)
from tests.support.frames import make_center_codec, make_codec, surround_frame


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> Head:
    head: Head = request.param
    return head


def batch_of(codec: AnchorCodec | BevCenterCodec, seeds: int = 3) -> Batch:
    return make_bev_batch([surround_frame(seed) for seed in range(seeds)], codec)


def boxes_at(*places: tuple[float, float], label: int = 0, yaw: float = 0.0) -> Boxes3D:
    """One frame of boxes of their class's mean size on the ground."""
    count = len(places)
    dims = MEAN_DIMS[label].expand(count, 3)
    boxes = Boxes3D(
        centers=torch.tensor([[x, y, float(dims[0, 0]) / 2] for x, y in places]),
        dims_hwl=dims,
        yaw=torch.full((count,), yaw),
        labels=torch.full((count,), label),
        velocity=torch.zeros(count, 2),
        attributes=torch.zeros(count, dtype=torch.int64),
        object_ids=torch.arange(count),
        num_points=torch.full((count,), 9),
        visibility=torch.ones(count),
        valid=torch.ones(count, dtype=torch.bool),
    )
    return map_tensors(boxes, lambda values: values[None])


def test_all_codecs_offer_the_same(head: Head) -> None:
    for codec in (make_bev_codec(head), make_codec(), make_center_codec()):
        assert isinstance(codec, DetectorCodec)


def test_what_is_encoded_comes_back(head: Head) -> None:
    codec = make_bev_codec(head)
    batch = batch_of(codec)
    targets = codec.targets(batch)
    said = codec.responses_of(targets)
    if isinstance(codec, AnchorCodec):
        found = codec.boxes_said(said, index=targets.index)
    else:
        found = codec.boxes_said(said, index=targets.index, labels=targets.boxes.labels)
    valid = targets.boxes.valid
    assert valid.sum() > 10
    assert torch.equal(found.labels[valid], targets.boxes.labels[valid])
    for name in ("centers", "dims_hwl"):
        torch.testing.assert_close(
            getattr(found, name)[valid], getattr(targets.boxes, name)[valid], rtol=1e-4, atol=1e-4
        )
    turn = found.yaw[valid] - targets.boxes.yaw[valid]
    torch.testing.assert_close(turn.cos(), torch.ones_like(turn), atol=1e-5, rtol=0)


def test_decoding_finds_the_boxes_that_perfect_responses_say(head: Head) -> None:
    codec = make_bev_codec(head)
    batch = batch_of(codec, seeds=2)
    targets = codec.targets(batch)
    responses = perfect_responses(codec, batch)
    boxes, scores = codec.decode(responses, batch, top_k=80)
    for frame in range(2):
        kept = scores[frame] > 0.9
        found = boxes.centers[frame][kept]
        valid = targets.boxes.valid[frame]
        distance = torch.cdist(targets.boxes.centers[frame][valid], found).amin(1)
        assert (distance < 1e-3).all()
        assert (torch.cdist(found, targets.boxes.centers[frame][valid]).amin(1) < 1e-3).all()


def perfect_responses(codec: AnchorCodec | BevCenterCodec, batch: Batch) -> dict[str, Tensor]:
    """Responses of a network that knows the labels."""
    targets = codec.targets(batch)
    per_cell = codec.anchors_per_cell if isinstance(codec, AnchorCodec) else 1
    places, classes = len(codec.grid) * per_cell, len(codec.mean_dims(torch.device("cpu")))
    responses = {"class_logits": torch.full((len(batch.images), places, classes), -9.0)}
    valid = targets.boxes.valid
    frames = torch.arange(len(valid))[:, None].expand_as(valid)[valid]
    index = targets.index[valid]
    responses["class_logits"][frames, index, targets.boxes.labels[valid]] = 9.0
    for name, values in codec.responses_of(targets).items():
        room = torch.zeros(len(valid), places, values.shape[-1])
        room[frames, index] = values[valid]
        responses[name] = room
    return responses


def test_only_what_a_camera_sees_and_the_grid_holds_is_learnt(head: Head) -> None:
    codec = make_bev_codec(head)
    batch = make_bev_batch([surround_frame(0, cameras=1)], codec)
    seen = is_seen(batch.boxes_cam, batch.boxes_bev)
    assert 0 < seen.sum() < batch.boxes_bev.valid.sum()
    learnt = batch.positives.slot[batch.positives.valid].unique()
    wanted = (seen & codec.is_learnt_bev(batch.boxes_bev))[0].nonzero()[:, 0]
    assert torch.equal(learnt, wanted)
    far = replace(batch.boxes_bev, centers=batch.boxes_bev.centers + 100)
    assert not codec.is_learnt_bev(far).any()
    unseen = replace(batch.boxes_bev, num_points=torch.zeros_like(batch.boxes_bev.num_points))
    assert not codec.is_learnt_bev(unseen).any()


def test_frames_without_objects_have_no_positives(head: Head) -> None:
    codec = make_bev_codec(head)
    batch = make_bev_batch([surround_frame(0, is_labelled=False)], codec)
    assert not batch.positives.valid.any()


def test_two_objects_in_a_cell_are_learnt_once() -> None:
    codec = make_bev_codec("centers")
    positives = codec.positives(boxes_at((3.0, 3.0), (3.2, 3.1), (9.0, 3.0)))
    assert positives.slot[positives.valid].tolist() == [0, 2]


def test_the_room_for_positives_holds_the_nearest_objects() -> None:
    codec = BevCenterCodec(grid=GRID, mean_dims_hwl=MEAN_DIMS, ground_height_m=0.0, max_positives=2)
    positives = codec.positives(boxes_at((15.0, 3.0), (9.0, 3.0), (3.0, 3.0)))
    assert positives.slot[positives.valid].tolist() == [2, 1]


def test_the_bump_of_an_object_is_one_at_its_cell_and_in_its_class_alone() -> None:
    codec = make_bev_codec("centers")
    assert isinstance(codec, BevCenterCodec)
    batch = batch_of(codec, seeds=1)
    targets = codec.targets(batch)
    heat = codec.cell_targets(targets).heatmap
    index, labels = targets.index[targets.boxes.valid], targets.boxes.labels[targets.boxes.valid]
    assert torch.equal(heat[0, index, labels], torch.ones(len(index)))
    assert (heat[0] == 1).sum() == len(index)


def anchor_codec() -> AnchorCodec:
    codec = make_bev_codec("anchors")
    assert isinstance(codec, AnchorCodec)
    return codec


def test_overlaps_are_those_of_boxes_along_the_axes() -> None:
    codec = anchor_codec()
    boxes = boxes_at((4.7, 3.4), (-9.1, 7.7), label=0, yaw=0.2)
    found = codec.overlaps(boxes)
    rows, columns = GRID.size
    cells = torch.arange(rows * columns)
    for rotation in range(ROTATIONS):
        anchors = codec.anchors_at(cells * codec.anchors_per_cell + rotation)
        theirs, _ = footprints_bev(anchors.centers, anchors.dims_hwl, anchors.yaw)
        own, _ = footprints_bev(boxes.centers[0], boxes.dims_hwl[0], torch.zeros(2))
        wanted = pairwise_bev_iou(own.double().numpy(), theirs.double().numpy())
        torch.testing.assert_close(
            found[0, :, rotation].flatten(1).double(), torch.from_numpy(wanted), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize(
    ("yaw", "rotation"), [(0.3, 0), (-0.7, 0), (math.pi, 0), (1.2, 1), (-1.5, 1)]
)
def test_an_object_is_learnt_by_the_anchor_along_it(yaw: float, rotation: int) -> None:
    codec = anchor_codec()
    # In the middle of a cell: its anchor of the right rotation overlaps it fully.
    positives = codec.positives(boxes_at((5.0, 3.0), yaw=yaw))
    index = int(positives.index[0, 0])
    anchors = codec.anchors_at(positives.index)
    torch.testing.assert_close(anchors.centers[0, 0, :2], torch.tensor([5.0, 3.0]))
    assert index % codec.anchors_per_cell == rotation
    assert bool(positives.valid[0, 0])


def test_every_object_has_an_anchor_and_none_has_another_class() -> None:
    codec = anchor_codec()
    boxes = boxes_at((5.9, 3.9), (-7.1, -8.9), label=1)  # people between four cells each
    positives = codec.positives(boxes)
    assert set(positives.slot[positives.valid].tolist()) == {0, 1}
    classes = positives.index[positives.valid] % codec.anchors_per_cell // ROTATIONS
    assert (classes == 1).all()


def test_an_anchor_learns_the_object_that_it_overlaps_most() -> None:
    codec = anchor_codec()
    positives = codec.positives(boxes_at((5.0, 3.0), (5.6, 3.0)))
    index = positives.index[positives.valid]
    assert len(index) == len(index.unique())
    slot = dict(zip(index.tolist(), positives.slot[positives.valid].tolist(), strict=True))
    at_first = int(codec.positives(boxes_at((5.0, 3.0))).index[0, 0])
    assert slot[at_first] == 0


def test_ignored_anchors_are_those_that_overlap_their_class() -> None:
    codec = anchor_codec()
    batch = batch_of(codec, seeds=1)
    is_ignored = codec.is_ignored(batch)[0]
    learning = batch.positives.index[batch.positives.valid]
    strong = codec.overlaps(batch.boxes_bev) * batch.boxes_bev.valid[..., None, None, None]
    assert is_ignored.sum() >= (strong.amax(1) >= 0.35).sum() > 0
    # The best anchor of an object learns it even where it overlaps too little to be ignored.
    assert is_ignored[learning].sum() > 0
    assert is_ignored.float().mean() < 0.05


def test_boxes_go_to_a_camera_and_back() -> None:
    frame = surround_frame(4)
    assert frame.boxes_bev is not None
    for camera, pose in enumerate(frame.bev_from_cam):
        there = boxes_in_camera(frame.boxes_bev, pose)
        back = boxes_in_bev(there, pose)
        torch.testing.assert_close(back.centers, frame.boxes_bev.centers, atol=1e-4, rtol=0)
        turn = back.yaw - frame.boxes_bev.yaw
        # Pitch is no part of a camera's yaw: 3 degrees of it turn boxes by less than a thousandth.
        assert turn.cos().min() > 1 - 1e-5
        assert frame.boxes_cam is not None
        seen = frame.boxes_cam[camera]
        torch.testing.assert_close(there.centers[seen.object_ids], seen.centers)
        torch.testing.assert_close(there.velocity[seen.object_ids], seen.velocity)
        torch.testing.assert_close(there.yaw[seen.object_ids], seen.yaw)


def test_depth_at_centers_is_read_where_the_objects_are(head: Head) -> None:
    codec = make_bev_codec(head)
    batch = batch_of(codec, seeds=2)
    said = torch.rand(12, 8 * 12) * 30
    depth = codec.depth_at_centers({"depth_m": said}, batch)
    assert depth.shape == (12, 16)
    assert depth.isfinite().any()
    image, slot = depth.isfinite().nonzero()[0].tolist()
    boxes, projection = batch.boxes_cam, batch.projection.flatten(0, 1)[image]
    x, y, z = boxes.centers.flatten(0, 1)[image, slot].tolist()
    u = float(projection[0, 0]) * x / z + float(projection[0, 2])
    v = float(projection[1, 1]) * y / z + float(projection[1, 2])
    row, column = round((v - 4) / 8), round((u - 4) / 8)
    row, column = min(max(row, 0), 7), min(max(column, 0), 11)
    assert depth[image, slot] == said[image, row * 12 + column]
    assert make_bev_detector(head).stride == codec.depth_stride == 8
