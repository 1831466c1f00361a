import pytest
import torch
from torch import Tensor

from mono3d.codec.mirror import mirror_inputs
from mono3d.codec.points import make_points
from mono3d.data.augment import Augmentation
from mono3d.structures import Batch, Inputs
from tests.codec.test_dense import (
    assert_equal_boxes,
    boxes_before,
    camera_frame,
    random_camera,
    responses_that_say,
)
from tests.support.frames import IMAGE_SIZE, make_batch, make_codec, surround_frame


def both_ways(seed: int) -> tuple[Batch, Batch]:
    projection = random_camera(seed)
    frame = camera_frame(boxes_before(projection, seed), projection)
    plain, flipped = (
        make_batch([frame], make_codec(), augmentation=Augmentation(flip_probability=p))
        for p in (0.0, 1.0)
    )
    return plain, flipped


def owners(batch: Batch, num_points: int) -> Tensor:
    """Slot of the object that each point learns, -1 for none."""
    found = torch.full((num_points,), -1)
    valid = batch.positives.valid[0, 0]
    found[batch.positives.index[0, 0][valid]] = batch.positives.slot[0, 0][valid]
    return found


def test_mirrored_inputs_are_those_of_the_mirrored_frame() -> None:
    frame = surround_frame(0)
    plain, flipped = (
        make_batch([frame], make_codec(), augmentation=Augmentation(flip_probability=p))
        for p in (0.0, 1.0)
    )
    mirrored = mirror_inputs(plain)
    assert torch.equal(mirrored.images, flipped.images)
    torch.testing.assert_close(mirrored.projection, flipped.projection)
    torch.testing.assert_close(mirrored.bev_from_cam, flipped.bev_from_cam)
    assert mirrored.points is not None
    assert flipped.points is not None
    torch.testing.assert_close(mirrored.points, flipped.points)


def test_mirroring_twice_changes_nothing() -> None:
    plain, _ = both_ways(0)
    again = mirror_inputs(mirror_inputs(plain))
    assert isinstance(again, Inputs)
    assert torch.equal(again.images, plain.images)
    torch.testing.assert_close(again.projection, plain.projection)
    torch.testing.assert_close(again.bev_from_cam, plain.bev_from_cam)


@pytest.mark.parametrize("seed", range(6))
def test_two_perfect_answers_have_the_truth_as_their_mean(seed: int) -> None:
    codec = make_codec()
    plain, flipped = both_ways(seed)
    said, mirrored = (responses_that_say(codec.targets(b), codec) for b in (plain, flipped))
    mean = codec.mean_with_mirrored(said, mirrored, IMAGE_SIZE)
    # Points of both that speak of the same object: those near its edge may learn it in one only.
    grid = make_points(IMAGE_SIZE, codec.strides)
    mine, theirs = owners(plain, len(grid)), owners(flipped, len(grid))
    start, partners = 0, []
    for stride in codec.strides:
        rows, columns = IMAGE_SIZE[0] // stride, IMAGE_SIZE[1] // stride
        level = torch.arange(start, start + rows * columns).view(rows, columns)
        partners.append(level.flip(1).flatten())
        start += rows * columns
    agreed = ((mine >= 0) & (mine == theirs[torch.cat(partners)])).nonzero()[:, 0]
    assert len(agreed) > 5
    truth = plain.boxes_cam.select(torch.tensor(0)).select(torch.tensor(0)).select(mine[agreed])
    boxes = codec.boxes_at(mean, plain, index=agreed[None], labels=truth.labels[None])
    assert_equal_boxes(boxes.select(torch.tensor(0)), truth)


def test_depths_are_averaged_as_ratios_and_scores_as_logits() -> None:
    codec = make_codec()
    plain, flipped = both_ways(1)
    said, mirrored = (responses_that_say(codec.targets(b), codec) for b in (plain, flipped))
    said = said | {"depth_m": torch.full_like(said["depth_m"], 10.0)}
    mirrored = mirrored | {
        "depth_m": torch.full_like(said["depth_m"], 40.0),
        "class_logits": torch.full_like(said["class_logits"], -10.0),
    }
    mean = codec.mean_with_mirrored(said, mirrored, IMAGE_SIZE)
    assert (mean["depth_m"] == 20.0).all()
    torch.testing.assert_close(mean["class_logits"], (said["class_logits"] - 10) / 2)
