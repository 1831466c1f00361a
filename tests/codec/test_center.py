"""Boxes → cells of the heat map → boxes, and which cell an object has."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mono3d.codec.center import NUM_KEYPOINTS, CenterCodec
from mono3d.codec.point_codec import BoxTargets
from mono3d.codec.points import make_points
from mono3d.data.augment import Augmentation
from mono3d.geometry.boxes import corners_cam
from mono3d.geometry.camera import project
from mono3d.structures import Batch, Boxes3D, Positives
from tests.codec.test_dense import (
    CAMERA,
    assert_equal_boxes,
    boxes_before,
    camera_frame,
    random_camera,
)
from tests.support.boxes import make_boxes
from tests.support.frames import (
    IMAGE_SIZE,
    NUM_CLASSES,
    make_batch,
    make_center_codec,
    surround_frame,
)


def responses_that_say(codec: CenterCodec, batch: Batch) -> dict[str, Tensor]:
    """Responses of a perfect network: heat at the cells, the targets there, zeros elsewhere."""
    targets = codec.targets(batch)
    num_points = len(make_points(IMAGE_SIZE, codec.strides))

    def placed(values: Tensor) -> Tensor:
        index = torch.where(targets.valid, targets.index, num_points)
        index = index.reshape(*index.shape, *[1] * (values.dim() - 2)).expand(values.shape)
        shape = (len(index), num_points + 1, *values.shape[2:])
        return torch.zeros(shape).scatter(1, index, values.float())[:, :num_points]

    heat = codec.image_targets(batch, targets).heatmap
    return {
        "class_logits": heat.logit(eps=1e-4),
        "offset": placed(targets.offset),
        "depth_m": placed(targets.depth_m),
        "log_dims": placed(targets.log_dims),
        **{name: placed(values) for name, values in codec.heading.encode(targets.alpha).items()},
        "velocity": placed(targets.velocity),
        "attribute": placed(one_hot(targets.attributes, 4)),
    }


def found_and_true(batch: Batch, targets: BoxTargets, boxes: Boxes3D) -> list[tuple[Boxes3D, ...]]:
    pairs = []
    for image in range(len(targets.index)):
        frame, camera = (torch.tensor(part) for part in divmod(image, batch.images.shape[1]))
        valid = targets.valid[image]
        truth = batch.boxes_cam.select(frame).select(camera)
        said = boxes.select(torch.tensor(image)).select(valid)
        pairs.append((said, truth.select(targets.object_ids[image][valid])))
    return pairs


@pytest.mark.parametrize("flip_probability", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_decoding_perfect_responses_gives_the_boxes(seed: int, flip_probability: float) -> None:
    projection = random_camera(seed)
    frame = camera_frame(boxes_before(projection, seed), projection)
    codec = make_center_codec()
    batch = make_batch([frame], codec, augmentation=Augmentation(flip_probability=flip_probability))
    targets, responses = codec.targets(batch), responses_that_say(codec, batch)
    boxes = codec.boxes_at(responses, batch, index=targets.index, labels=targets.labels)
    ((said, truth),) = found_and_true(batch, targets, boxes)
    assert len(said) > 4
    assert_equal_boxes(said, truth)
    ((exact, truth),) = found_and_true(batch, targets, codec.boxes_of(targets, batch))
    assert_equal_boxes(exact, truth)
    decoded, scores = codec.decode(responses, batch, top_k=len(said))
    assert (scores > 0.9).all()
    assert sorted(decoded.object_ids[0].tolist()) == sorted(said.object_ids.tolist())


def test_six_cameras_and_an_unlabelled_frame() -> None:
    codec = make_center_codec()
    batch = make_batch([surround_frame(0), surround_frame(1, is_labelled=False)], codec)
    targets, responses = codec.targets(batch), responses_that_say(codec, batch)
    assert not targets.valid[6:].any()
    boxes = codec.boxes_at(responses, batch, index=targets.index, labels=targets.labels)
    for said, truth in found_and_true(batch, targets, boxes):
        assert_equal_boxes(said, truth)


def cell_of(positives: Positives, number: int = 0) -> Tensor:
    return make_points(IMAGE_SIZE, (4,)).centers_px[positives.index[number]]


def test_an_object_has_the_cell_next_to_its_projected_centre() -> None:
    codec = make_center_codec()
    boxes = make_boxes([[1.0, 0.5, 10.0]])
    positives = codec.positives(boxes, CAMERA, IMAGE_SIZE)
    assert positives.valid.tolist() == [True]
    centre = project(boxes.centers, CAMERA)[0]
    assert (cell_of(positives) - centre).abs().max() <= 2
    left, top, right, bottom = positives.box_px[0].tolist()
    assert left < centre[0] < right
    assert top < centre[1] < bottom


def test_an_object_whose_centre_lies_outside_has_a_cell_at_the_edge() -> None:
    """A long car alongside: its centre is left of the image, its front is not."""
    codec = make_center_codec()
    boxes = make_boxes([[-5.0, 0.5, 6.0]], dims_hwl=(1.6, 1.8, 9.0), yaw=-1.0)
    assert project(boxes.centers, CAMERA)[0, 0] < 0
    batch = make_batch([camera_frame(boxes)], codec)
    positives = codec.positives(boxes, CAMERA, IMAGE_SIZE)
    assert cell_of(positives)[0] == 2  # the first column's middle
    targets, responses = codec.targets(batch), responses_that_say(codec, batch)
    found = codec.boxes_at(responses, batch, index=targets.index, labels=targets.labels)
    ((said, truth),) = found_and_true(batch, targets, found)
    assert len(said) == 1
    assert_equal_boxes(said, truth)


def test_of_two_objects_in_one_cell_the_nearer_one_has_it_and_both_are_read() -> None:
    codec = make_center_codec()
    boxes = make_boxes([[0.0, 0.0, 30.0], [0.0, 0.0, 10.0]])
    learnt = codec.positives(boxes, CAMERA, IMAGE_SIZE)
    assert learnt.slot[learnt.valid].tolist() == [1]
    read = codec.read_points(boxes, CAMERA, IMAGE_SIZE)
    assert set(read.slot[read.valid].tolist()) == {0, 1}
    assert (read.index[read.valid] == learnt.index[0]).all()


def test_behind_unseen_or_no_objects_have_no_cell() -> None:
    codec = make_center_codec()
    boxes = make_boxes([[0, 0, -10.0], [2.0, 0, 12.0], [90.0, 0, 12.0]])
    boxes = replace(boxes, num_points=torch.tensor([-1, 0, -1]))
    for found in (boxes, Boxes3D.empty()):
        positives = codec.positives(found, CAMERA, IMAGE_SIZE)
        assert not positives.valid.any()
        for value in (positives.index, positives.slot, positives.weight, positives.box_px):
            assert value.eq(0).all()
    targets = codec.targets(make_batch([camera_frame(boxes)], codec))
    assert targets.offset.isfinite().all()


def test_depth_is_read_at_the_objects_cells() -> None:
    codec = make_center_codec()
    boxes = make_boxes([[0, 0, 10.0], [2.0, 0, 14.0], [0, 0, -5.0]])
    batch = make_batch([camera_frame(boxes)], codec, max_objects=4)
    responses = {"depth_m": torch.arange(float(len(codec.grid(batch.images))))[None]}
    read = codec.depth_at_centers(responses, batch)
    positives = batch.positives
    of_slot = dict(zip(positives.slot[0, 0].tolist(), positives.index[0, 0].tolist(), strict=True))
    assert read[0, 1] == of_slot[1]
    assert read[0, 2:].isnan().all()


def test_depth_is_read_of_objects_whose_centre_is_in_the_image() -> None:
    """Families place points differently far outside, and are measured on the same objects."""
    codec = make_center_codec()
    focal, middle = CAMERA[0, 0].item(), CAMERA[0, 2].item()
    places = [((u - middle) * 10 / focal, y, 10.0) for u, y in ((-0.4, 0.0), (-0.6, 2.0))]
    boxes = make_boxes([list(place) for place in places])
    batch = make_batch([camera_frame(boxes)], codec)
    assert set(batch.positives.slot[batch.positives.valid].tolist()) == {0, 1}
    responses = {"depth_m": torch.ones(1, len(codec.grid(batch.images)))}
    assert codec.depth_at_centers(responses, batch)[0, :2].isfinite().tolist() == [True, False]


def test_heat_is_one_at_cells_of_the_class_only() -> None:
    codec = make_center_codec()
    boxes = make_boxes([[-2.0, 0, 10.0], [3.0, 0, 14.0]], labels=[0, 1])
    batch = make_batch([camera_frame(boxes)], codec)
    targets = codec.targets(batch)
    heat = codec.image_targets(batch, targets).heatmap
    assert heat.shape == (1, len(codec.grid(batch.images)), NUM_CLASSES)
    at_one = {tuple(place) for place in (heat[0] == 1).nonzero().tolist()}
    valid = targets.valid[0]
    assert at_one == set(
        zip(targets.index[0][valid].tolist(), targets.labels[0][valid].tolist(), strict=True)
    )


def test_boxes_in_the_image_are_the_hulls() -> None:
    codec = make_center_codec()
    batch = make_batch([camera_frame(make_boxes([[1.0, 0.5, 10.0]]))], codec)
    targets = codec.targets(batch)
    from_cell, log_sides = codec.image_targets(batch, targets).box_2d[0, 0].split(2)
    cell = codec.grid(batch.images).centers_px[targets.index[0, 0]]
    middle, sides = cell + from_cell * 4, log_sides.exp() * 4
    hull = torch.cat([middle - sides / 2, middle + sides / 2])
    torch.testing.assert_close(hull, batch.positives.box_px[0, 0, 0])


def test_keypoints_are_where_corners_and_centre_project() -> None:
    codec = make_center_codec()
    boxes = make_boxes([[1.0, 0.5, 10.0]], yaw=0.4)
    batch = make_batch([camera_frame(boxes)], codec)
    targets = codec.targets(batch)
    keypoints = codec.keypoint_targets(batch, targets)
    corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)[0]
    pixels = project(torch.cat([corners, boxes.centers]), CAMERA)
    grid = codec.grid(batch.images).centers_px
    from_object = grid[targets.index[0, 0]] + keypoints.offsets[0, 0] * 4
    torch.testing.assert_close(from_object, pixels, rtol=1e-4, atol=1e-3)
    from_cells = grid[keypoints.index[0, 0]] + keypoints.rest[0, 0] * 4
    torch.testing.assert_close(from_cells, pixels, rtol=1e-4, atol=1e-3)
    assert keypoints.rest[0, 0].abs().max() <= 0.5
    assert keypoints.inside[0].sum() == NUM_KEYPOINTS
    for number in range(NUM_KEYPOINTS):
        assert (keypoints.heatmap[0, :, number] == 1).nonzero().tolist() == [
            [keypoints.index[0, 0, number].item()]
        ]


def test_corners_behind_or_beside_are_not_taught() -> None:
    """A long car alongside reaches behind the camera."""
    codec = make_center_codec()
    boxes = make_boxes([[-3.0, 0.5, 3.0]], dims_hwl=(1.6, 1.8, 9.0), yaw=-1.57)
    batch = make_batch([camera_frame(boxes)], codec)
    keypoints = codec.keypoint_targets(batch, codec.targets(batch))
    assert 0 < keypoints.inside[0].sum() < NUM_KEYPOINTS - 4
    assert keypoints.heatmap.amax(1)[0].eq(1).sum() == keypoints.inside[0].sum()


@pytest.mark.parametrize("seed", range(3))
def test_two_perfect_answers_have_the_truth_as_their_mean(seed: int) -> None:
    """Where both images give an object the same cell, as seen from either side."""
    codec = make_center_codec()
    projection = random_camera(seed)
    frame = camera_frame(boxes_before(projection, seed), projection)
    plain, flipped = (
        make_batch([frame], codec, augmentation=Augmentation(flip_probability=p))
        for p in (0.0, 1.0)
    )
    mean = codec.mean_with_mirrored(
        responses_that_say(codec, plain), responses_that_say(codec, flipped), IMAGE_SIZE
    )
    columns = IMAGE_SIZE[1] // 4
    mine, theirs = (
        dict(zip(b.positives.slot[0, 0].tolist(), b.positives.index[0, 0].tolist(), strict=True))
        for b in (plain, flipped)
    )
    back = {slot: i - i % columns + columns - 1 - i % columns for slot, i in theirs.items()}
    valid = plain.positives.slot[0, 0][plain.positives.valid[0, 0]].tolist()
    agreed = [slot for slot in valid if mine[slot] == back.get(slot)]
    assert len(agreed) > 1
    truth = plain.boxes_cam.select(torch.tensor(0)).select(torch.tensor(0))
    truth = truth.select(torch.tensor(agreed))
    index = torch.tensor([[mine[slot] for slot in agreed]])
    boxes = codec.boxes_at(mean, plain, index=index, labels=truth.labels[None])
    assert_equal_boxes(boxes.select(torch.tensor(0)), truth)
