"""Preparation, padding and loading: what a batch holds, and that it depends on nothing else."""

import multiprocessing
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from mono3d.data.augment import Augmentation, ColourJitter, fit_to_size
from mono3d.data.loaders import BatchLoader, Preparation, evaluation_batches, prepare_batch
from mono3d.data.sampling import Sampling
from mono3d.errors import DataError
from mono3d.structures import Batch, Frame, map_tensors
from tests.support.frames import IMAGE_SIZE, FramesInMemory, make_batch, make_codec, surround_frame

CODEC = make_codec()


def preparation(**changes: Any) -> Preparation:
    plain = Preparation(image_size=IMAGE_SIZE, encode=CODEC.encode, max_objects=8)
    return replace(plain, **changes)


def all_tensors(batch: Batch) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(batch, note)
    return found


def assert_same_batch(one: Batch, other: Batch) -> None:
    assert one.frame_ids == other.frame_ids
    for a, b in zip(all_tensors(one), all_tensors(other), strict=True):
        assert torch.equal(a, b)


def loader(num_workers: int = 0, dataset: Any = None, **changes: Any) -> BatchLoader:
    dataset = dataset or FramesInMemory(14)
    how = preparation(augmentation=Augmentation(colour=ColourJitter()))
    sampling = Sampling(num_frames=len(dataset), batch_size=3, epoch_frames=14, seed=5)
    return BatchLoader(dataset, how, replace(sampling, **changes), num_workers=num_workers)


def test_points_of_all_frames_are_joined_with_offsets() -> None:
    frames = [surround_frame(seed) for seed in range(3)]
    frames[1] = replace(frames[1], points=torch.zeros(0, 4))
    batch = make_batch(frames, CODEC)
    assert batch.points is not None
    assert batch.point_offsets is not None
    assert batch.point_offsets.tolist() == [0, 240, 240, 480]
    for i, frame in enumerate(frames):
        start, end = batch.point_offsets[i : i + 2].tolist()
        assert frame.points is not None
        assert torch.equal(batch.points[start:end], frame.points)


def test_a_frame_without_points_leaves_the_batch_without_them() -> None:
    frames = [surround_frame(0), replace(surround_frame(1), points=None)]
    batch = make_batch(frames, CODEC)
    assert batch.points is None
    assert batch.point_offsets is None
    assert batch.depth_input is None


def test_boxes_are_padded_with_zeros_that_are_not_valid() -> None:
    frame = surround_frame(0)
    assert frame.boxes_cam is not None
    batch = make_batch([frame], CODEC, max_objects=20)
    counts = [len(boxes) for boxes in frame.boxes_cam]
    assert batch.boxes_cam.valid.sum(-1).tolist() == [counts]
    assert batch.boxes_bev.valid.sum(-1).tolist() == [12]
    for boxes in (batch.boxes_cam, batch.boxes_bev):
        for field in fields(boxes):
            padding = getattr(boxes, field.name)[~boxes.valid]
            assert padding.eq(0).all(), field.name
    for camera, boxes in enumerate(frame.boxes_cam):
        assert torch.equal(batch.boxes_cam.centers[0, camera, : len(boxes)], boxes.centers)


def test_unlabelled_frames_have_neither_boxes_nor_positives() -> None:
    frames = [surround_frame(0), surround_frame(1, is_labelled=False)]
    batch = make_batch(frames, CODEC)
    assert batch.has_labels.tolist() == [True, False]
    assert batch.positives.valid.shape[:2] == (2, 6)
    assert batch.positives.valid[0].any()
    for valid in (batch.positives.valid, batch.boxes_cam.valid, batch.boxes_bev.valid):
        assert not valid[1].any()


def test_a_labelled_frame_without_objects_is_labelled() -> None:
    frame = surround_frame(0)
    assert frame.boxes_cam is not None
    assert frame.boxes_bev is not None
    nothing = torch.zeros(0, dtype=torch.int64)
    empty = replace(
        frame,
        boxes_cam=tuple(boxes.select(nothing) for boxes in frame.boxes_cam),
        boxes_bev=frame.boxes_bev.select(nothing),
    )
    batch = make_batch([empty], CODEC)
    assert batch.has_labels.tolist() == [True]
    assert not batch.boxes_bev.valid.any()


def test_of_too_many_objects_the_nearest_are_kept() -> None:
    frame = surround_frame(0)
    batch = make_batch([frame], CODEC, max_objects=2)
    assert frame.boxes_bev is not None
    assert frame.boxes_cam is not None
    distance = frame.boxes_bev.centers.norm(dim=-1)
    assert batch.boxes_bev.object_ids[0].tolist() == distance.argsort()[:2].tolist()
    for camera, boxes in enumerate(frame.boxes_cam):
        nearest = boxes.object_ids[boxes.centers.norm(dim=-1).argsort()]
        assert batch.boxes_cam.object_ids[0, camera].tolist()[: len(nearest)] == (
            nearest[:2].tolist() if len(boxes) > 2 else boxes.object_ids.tolist()
        )
    slots = batch.positives.slot[batch.positives.valid]
    assert slots.max() < 2


def test_depth_for_teachers_is_true_depth_where_points_are() -> None:
    batch = make_batch([surround_frame(0)], CODEC, depth_input="lidar")
    assert batch.depth_input is not None
    assert batch.depth_input.shape == (1, 6, 1, *IMAGE_SIZE)
    known = batch.depth_input[batch.depth_input > 0]
    assert len(known) > 20
    assert known.max() < 40


def test_depth_of_objects_needs_labels_alone_and_follows_the_augmented_image() -> None:
    frame = replace(surround_frame(0), points=None)
    mirror = Augmentation(flip_probability=1.0, colour=None)
    plain = make_batch([frame], CODEC, depth_input="objects").depth_input
    mirrored = make_batch([frame], CODEC, augmentation=mirror, depth_input="objects").depth_input
    assert plain is not None
    assert mirrored is not None
    depths = frame.boxes_cam[0].centers[:, 2] if frame.boxes_cam else torch.zeros(0)
    painted = plain[0, 0].unique()
    assert len(painted) > 1
    assert torch.isin(painted[painted > 0], depths).all()
    shifted = (mirrored - plain.flip(-1)).abs() > 1e-3
    assert shifted.float().mean() < 0.01  # rounding at the edges of boxes


def test_depth_of_objects_of_an_unlabelled_frame_is_unknown() -> None:
    batch = make_batch([surround_frame(2, is_labelled=False)], CODEC, depth_input="objects")
    assert batch.depth_input is not None
    assert not batch.depth_input.any()


def test_depth_targets_are_the_nearest_points_of_cells() -> None:
    """Camera at the origin of the bev frame, 80 px, centre (48, 24): where points should fall."""
    forward = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    frame = replace(
        FramesInMemory(1)[0],
        bev_from_cam=forward[None],
        points=torch.tensor([
            [10.0, -0.25, -0.25, 0.5],  # pixel (50, 26): cell (6, 3), around (52, 28)
            [8.0, -0.5, -0.3, 0.5],  # pixel (53, 27): the same cell, nearer
            [10.0, 0.75, -1.25, 0.5],  # pixel (42, 34): cell (5, 4)
        ]),
    )  # fmt: skip
    batch = prepare_batch(
        [frame], [torch.Generator()], preparation(depth_targets="lidar", depth_target_stride=8)
    )
    assert batch.depth_targets is not None
    assert batch.depth_targets.shape == (1, 1, 8, 12)
    cells = batch.depth_targets[0, 0]
    assert cells[3, 6] == 8.0
    assert cells[4, 5] == 10.0
    assert cells.count_nonzero() == 2


def test_depth_without_points_is_an_error_that_names_the_frame() -> None:
    frame = replace(surround_frame(4), points=None)
    with pytest.raises(
        DataError, match=r"^frame moment-4: depth .*wanted, but it has no LiDAR points"
    ):
        prepare_batch([frame], [torch.Generator()], preparation(depth_input="lidar"))


def test_an_epoch_has_its_batches_and_can_start_in_its_middle() -> None:
    whole = list(loader().epoch(1))
    assert len(whole) == loader().batches_per_epoch == 4
    tail = list(loader().epoch(1, first_batch=2))
    for one, other in zip(whole[2:], tail, strict=True):
        assert_same_batch(one, other)


def test_augmentation_depends_on_seed_epoch_and_frame_alone() -> None:
    def images(**changes: Any) -> dict[str, Tensor]:
        epoch = changes.pop("epoch", 0)
        batches = loader(**changes).epoch(epoch)
        return {i: b.images[n] for b in batches for n, i in enumerate(b.frame_ids)}

    plain, other_split = images(), images(batch_size=1, rank=1, world_size=2)
    assert len(other_split) == 7
    assert all(
        torch.equal(plain[name], image) for name, image in other_split.items() if name in plain
    )
    for changes in ({"epoch": 1}, {"seed": 6}):
        changed = images(**changes)
        shared = plain.keys() & changed.keys()
        assert any(not torch.equal(plain[name], changed[name]) for name in shared)


def test_large_seeds_are_seeds() -> None:
    batches = list(loader(seed=2**32 - 1).epoch(10_000))
    assert len(batches) == 4


def test_loader_processes_change_nothing() -> None:
    here, there = list(loader(0).epoch(2)), list(loader(2).epoch(2))
    assert len(here) == 4
    for one, other in zip(here, there, strict=True):
        assert_same_batch(one, other)


class Broken(FramesInMemory):
    """Frame 3 cannot be read."""

    def __getitem__(self, index: int) -> Frame:
        if index == 3:
            raise DataError("samples/3.jpg: image is cut short")
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_errors_of_frames_are_one_line_wherever_they_are_read(num_workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(loader(num_workers, Broken(14)).epoch(0))
    assert str(caught.value) == "samples/3.jpg: image is cut short"
    assert multiprocessing.active_children() == []


def test_evaluation_keeps_the_order_and_changes_nothing() -> None:
    dataset = FramesInMemory(7)
    batches = list(
        evaluation_batches(dataset, preparation(), [4, 0, 6], batch_size=2, num_workers=0)
    )
    assert [batch.frame_ids for batch in batches] == [("frame-0004", "frame-0000"), ("frame-0006",)]
    assert torch.equal(batches[1].images[0], dataset[6].images)


def test_a_loader_finds_every_tensor_of_a_batch_to_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinning itself needs a GPU: here a pinned tensor is one that was marked."""
    batch = make_batch([surround_frame(0)], CODEC)
    marked: list[int] = []

    def mark(tensor: Tensor, *_: Any) -> Tensor:
        marked.append(id(tensor))
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", mark)
    pinned = pin_memory(batch)
    assert isinstance(pinned, Batch)
    assert marked == [id(tensor) for tensor in all_tensors(batch)]


def test_a_batch_holds_its_frames() -> None:
    frames = [FramesInMemory(3)[i] for i in range(3)]
    batch = prepare_batch(frames, [torch.Generator()] * 3, preparation())
    assert batch.images.shape == (3, 1, 3, *IMAGE_SIZE)
    for i, frame in enumerate(frames):
        assert torch.equal(batch.images[i], frame.images)
        assert frame.boxes_cam is not None
        alone = CODEC.positives(frame.boxes_cam[0], frame.projection[0], IMAGE_SIZE)
        assert torch.equal(batch.positives.index[i, 0], alone.index)
        assert torch.equal(batch.positives.weight[i, 0], alone.weight)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("colour", [None, ColourJitter()])
@pytest.mark.parametrize("size", [IMAGE_SIZE, (32, 56)])
def test_pixels_written_into_a_batch_are_those_of_the_changed_frames(
    flip: float, colour: ColourJitter | None, size: tuple[int, int]
) -> None:
    """And the frames themselves stay as they were."""
    frames = [surround_frame(seed) for seed in range(2)]
    before = [frame.images.clone() for frame in frames]
    change = Augmentation(flip_probability=flip, colour=colour)
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    how = preparation(augmentation=change, image_size=size)
    batch = prepare_batch(frames, [g.clone_state() for g in generators], how)
    for i, frame in enumerate(frames):
        alone = change(fit_to_size(frame, size), generators[i])
        assert torch.equal(batch.images[i], alone.images)
        assert torch.equal(batch.projection[i], alone.projection)
        assert torch.equal(frame.images, before[i])


def test_pixels_of_a_batch_lie_as_convolutions_want_them() -> None:
    """A whole batch would be turned around otherwise, here and in every step."""
    images = make_batch([surround_frame(0), surround_frame(1)], CODEC).images
    assert images.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_of_a_moment_those_stay_that_a_camera_sees() -> None:
    """One camera looks ahead; nearer objects behind it do not push out what it sees."""
    frame = surround_frame(0, cameras=1)
    assert frame.boxes_cam is not None
    seen = set(frame.boxes_cam[0].object_ids.tolist())
    how = replace(preparation(), max_objects=len(seen))
    batch = prepare_batch([frame], [torch.Generator()], how)
    assert set(batch.boxes_bev.object_ids[0].tolist()) == seen
    assert set(batch.boxes_cam.object_ids[0, 0].tolist()) == seen
