"""Boxes → targets → responses → boxes, and which objects are learnt at all."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mono3d.codec.dense import DenseCodec
from mono3d.codec.point_codec import (
    BoxTargets,
    PositionConfidence,
    gather_points,
    point_confidence,
)
from mono3d.codec.points import make_points
from mono3d.data.augment import Augmentation
from mono3d.geometry.camera import project
from mono3d.structures import Batch, Boxes3D, Frame, map_tensors
from tests.support.boxes import make_boxes
from tests.support.frames import IMAGE_SIZE, NUM_CLASSES, make_batch, make_codec, surround_frame

RESPONSE_WIDTHS = {
    "class_logits": NUM_CLASSES, "offset": 2, "log_dims": 3, "axis": 2, "direction": 2,
    "velocity": 2, "attribute": 4,
}  # fmt: skip
CAMERA = torch.tensor([[80.0, 0, 48, 0], [0, 80.0, 32, 0], [0, 0, 1, 0]])


def camera_frame(boxes: Boxes3D, projection: Tensor = CAMERA) -> Frame:
    return Frame(
        frame_id="frame",
        camera_names=("CAM_FRONT",),
        images=torch.zeros(1, 3, *IMAGE_SIZE, dtype=torch.uint8),
        projection=projection[None],
        bev_from_cam=torch.eye(4)[None],
        boxes_cam=(boxes,),
        boxes_bev=boxes,
    )


def responses_that_say(targets: BoxTargets, codec: DenseCodec) -> dict[str, Tensor]:
    """Responses of a perfect network: the targets at their points, no object anywhere else."""
    num_images, num_points = len(targets.index), len(make_points(IMAGE_SIZE, codec.strides))

    def placed(values: Tensor) -> Tensor:
        index = torch.where(targets.valid, targets.index, num_points)
        index = index.reshape(*index.shape, *[1] * (values.dim() - 2)).expand(values.shape)
        shape = (num_images, num_points + 1, *values.shape[2:])
        return torch.zeros(shape).scatter(1, index, values.float())[:, :num_points]

    is_class = torch.nn.functional.one_hot(targets.labels, NUM_CLASSES)
    return {
        "class_logits": placed(is_class) * 20 - 10,
        "centerness_logits": placed(targets.weight.logit(eps=1e-4)),
        "offset": placed(targets.offset),
        "depth_m": placed(targets.depth_m),
        "log_dims": placed(targets.log_dims),
        **{name: placed(values) for name, values in codec.heading.encode(targets.alpha).items()},
        "velocity": placed(targets.velocity),
        "attribute": placed(torch.nn.functional.one_hot(targets.attributes, 4)),
    }


def random_camera(seed: int) -> Tensor:
    """Any focal length, principal point off the middle, and the offsets of KITTI's P2."""
    random = torch.Generator().manual_seed(seed)
    focal = 50 * 4 ** torch.rand((), generator=random).item()
    cx, cy = (torch.tensor([48.0, 32.0]) + 10 * torch.randn(2, generator=random)).tolist()
    return torch.tensor([[focal, 0, cx, 4.5], [0, 1.02 * focal, cy, -0.2], [0, 0, 1, 0.003]])


def boxes_before(projection: Tensor, seed: int) -> Boxes3D:
    random = torch.Generator().manual_seed(seed)
    depth = 3 + 40 * torch.rand(8, generator=random)
    pixels = torch.rand(8, 2, generator=random) * torch.tensor([96.0, 64.0])
    x, y = ((pixels - projection[:2, 2]) / projection[[0, 1], [0, 1]] * depth[:, None]).unbind(-1)
    boxes = make_boxes(torch.stack([x, y, depth], dim=-1).tolist(), labels=[0, 1] * 4)
    return replace(
        boxes,
        dims_hwl=0.5 + 4 * torch.rand(8, 3, generator=random),
        yaw=(torch.rand(8, generator=random) * 2 - 1) * 3.14,
        velocity=5 * torch.randn(8, 2, generator=random),
        attributes=torch.arange(8) % 4,
    )


def assert_decodes_to_truth(batch: Batch, codec: DenseCodec) -> int:
    """Every positive's point gives back its object; returns how many there were.

    And what is decoded, best first, are such points with scores that no neighbour exceeds.
    """
    targets = codec.targets(batch)
    responses = responses_that_say(targets, codec)
    boxes = codec.boxes_at(responses, batch, index=targets.index, labels=targets.labels)
    decoded, scores = codec.decode(responses, batch, top_k=targets.index.shape[1])
    assert (scores.diff() <= 0).all()
    for image in range(len(targets.index)):
        valid = targets.valid[image]
        number = torch.tensor(image)
        frame, camera = (torch.tensor(part) for part in divmod(image, batch.images.shape[1]))
        slots = targets.object_ids[image][valid]
        truth = batch.boxes_cam.select(frame).select(camera).select(slots)
        assert_equal_boxes(boxes.select(number).select(valid), truth)
        peaks = decoded.select(number).object_ids[scores[image] > 0.01]
        slot_of = dict(zip(targets.index[image][valid].tolist(), slots.tolist(), strict=True))
        assert {slot_of[point] for point in peaks.tolist()} <= set(slots.tolist())
    return int(targets.valid.sum())


def assert_equal_boxes(decoded: Boxes3D, truth: Boxes3D) -> None:
    for name in ("centers", "dims_hwl", "velocity"):
        said, wanted = getattr(decoded, name), getattr(truth, name)
        torch.testing.assert_close(said, wanted, rtol=1e-4, atol=2e-3)
    assert torch.allclose((decoded.yaw - truth.yaw).cos(), torch.ones(len(truth)), atol=1e-5)
    assert torch.equal(decoded.labels, truth.labels)
    known = truth.attributes >= 0
    assert torch.equal(decoded.attributes[known], truth.attributes[known])


@pytest.mark.parametrize("flip_probability", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_decoding_perfect_responses_gives_the_boxes(seed: int, flip_probability: float) -> None:
    projection = random_camera(seed)
    frame = camera_frame(boxes_before(projection, seed), projection)
    codec = make_codec()
    augmentation = Augmentation(flip_probability=flip_probability)
    batch = make_batch([frame], codec, augmentation=augmentation)
    assert assert_decodes_to_truth(batch, codec) > 10


@pytest.mark.parametrize("flip_probability", [0.0, 1.0])
def test_decoding_gives_the_boxes_of_six_cameras(flip_probability: float) -> None:
    codec = make_codec(max_positives=128)
    augmentation = Augmentation(flip_probability=flip_probability)
    frames = [surround_frame(seed) for seed in range(3)]
    assert assert_decodes_to_truth(make_batch(frames, codec, augmentation=augmentation), codec) > 30


def test_targets_by_hand() -> None:
    """A car at (1, 0.5, 10): centre pixel (56, 36), alpha = yaw - atan2(1, 10)."""
    boxes = replace(
        make_boxes([[1.0, 0.5, 10.0]], dims_hwl=(1.6, 1.8, 8.4), yaw=0.0),
        velocity=torch.tensor([[3.0, math.nan]]),
        attributes=torch.tensor([2]),
    )
    codec = make_codec()
    batch = make_batch([camera_frame(boxes)], codec)
    targets = codec.targets(batch)
    best = targets.weight[0].argmax()
    grid = codec.grid(batch.images)
    point = grid.centers_px[targets.index[0, best]]
    stride = grid.strides_px[targets.index[0, best]]
    torch.testing.assert_close(
        targets.offset[0, best], (torch.tensor([56.0, 36.0]) - point) / stride
    )
    assert targets.depth_m[0, best] == 10.0
    assert targets.log_depth[0, best].item() == pytest.approx((math.log(10) - 2.5) / 0.6, abs=1e-5)
    torch.testing.assert_close(targets.log_dims[0, best], torch.tensor([0, 0, math.log(2)]))
    alpha = -math.atan2(1, 10)
    assert targets.alpha[0, best].item() == pytest.approx(alpha)
    assert not targets.velocity_known.any()
    assert targets.velocity.isfinite().all()
    assert targets.attribute_known[0, best]
    assert targets.attributes[0, best] == 2


def test_objects_behind_or_without_lidar_points_are_not_learnt() -> None:
    boxes = make_boxes([[0, 0, 10.0], [0.5, 0, -10.0], [2.0, 0, 12.0], [-2.0, 0, 12.0]])
    boxes = replace(boxes, num_points=torch.tensor([-1, 50, 0, 1]))
    positives = make_codec().positives(boxes, CAMERA, IMAGE_SIZE)
    assert set(positives.slot[positives.valid].tolist()) == {0, 3}


def test_an_image_without_objects_has_no_positives() -> None:
    codec = make_codec(max_positives=5)
    positives = codec.positives(Boxes3D.empty(), CAMERA, IMAGE_SIZE)
    assert positives.index.shape == (5,)
    assert not positives.valid.any()
    for value in (positives.index, positives.slot, positives.weight):
        assert value.eq(0).all()
    targets = codec.targets(make_batch([camera_frame(Boxes3D.empty())], codec))
    for name in ("offset", "log_depth", "log_dims", "alpha", "velocity"):
        assert getattr(targets, name).isfinite().all(), name
    assert not targets.valid.any()


def test_positives_of_many_images_are_those_of_each() -> None:
    cameras = torch.stack([random_camera(seed) for seed in range(6)])
    boxes = [boxes_before(camera, seed) for seed, camera in enumerate(cameras)]
    boxes[2] = replace(boxes[2], valid=torch.zeros(8, dtype=torch.bool))
    together = Boxes3D(
        **{f.name: torch.stack([getattr(b, f.name) for b in boxes]) for f in fields(Boxes3D)}
    )
    codec = make_codec(max_positives=20)
    leading = map_tensors(together, lambda t: t.unflatten(0, (3, 2)))
    found = codec.positives(leading, cameras.unflatten(0, (3, 2)), IMAGE_SIZE)
    assert found.index.shape == (3, 2, 20)
    assert not found.valid[1, 0].any()
    for number, camera in enumerate(cameras):
        alone = codec.positives(boxes[number], camera, IMAGE_SIZE)
        for field in fields(alone):
            value = getattr(found, field.name).flatten(0, 1)[number]
            assert torch.equal(value, getattr(alone, field.name)), field.name


def test_the_most_central_positives_fill_the_capacity() -> None:
    boxes = make_boxes([[0, 0, 10.0], [3.0, 0, 12.0]])
    whole = make_codec(max_positives=64).positives(boxes, CAMERA, IMAGE_SIZE)
    cut = make_codec(max_positives=3).positives(boxes, CAMERA, IMAGE_SIZE)
    assert whole.valid.sum() > 3
    assert torch.equal(cut.weight, whole.weight[:3])
    assert (whole.weight.diff() <= 0).all()
    assert cut.valid.all()


def test_evaluation_reads_where_it_would_for_any_radius_of_training() -> None:
    boxes = make_boxes([[0, 0, 10.0], [3.0, 0, 12.0]])
    narrow, wide = make_codec(radius_strides=0.6), make_codec()
    learnt = [codec.positives(boxes, CAMERA, IMAGE_SIZE) for codec in (narrow, wide)]
    assert learnt[0].valid.sum() < learnt[1].valid.sum()
    read = [codec.read_points(boxes, CAMERA, IMAGE_SIZE) for codec in (narrow, wide)]
    assert torch.equal(read[0].index, read[1].index)
    assert torch.equal(read[1].index, learnt[1].index)


def test_depth_at_centers_is_read_at_the_most_central_point() -> None:
    boxes = make_boxes([[0, 0, 10.0], [2.0, 0, 14.0], [0, 0, -5.0]])
    codec = make_codec()
    batch = make_batch([camera_frame(boxes)], codec, max_objects=4)
    targets = codec.targets(batch)
    responses = {"depth_m": torch.arange(float(len(codec.grid(batch.images))))[None]}
    read = codec.depth_at_centers(responses, batch)
    for slot in (0, 1):
        of_object = targets.valid[0] & (targets.object_ids[0] == slot)
        best = torch.where(of_object, targets.weight[0], 0.0).argmax()
        assert read[0, slot] == targets.index[0, best].float()
    assert read[0, 2:].isnan().all()


def test_depth_is_read_of_objects_whose_centre_is_in_the_image() -> None:
    """Families place points differently far outside, and are measured on the same objects."""
    codec = make_codec()
    focal, middle = CAMERA[0, 0].item(), CAMERA[0, 2].item()
    places = [((u - middle) * 10 / focal, y, 10.0) for u, y in ((-0.4, 0.0), (-0.6, 2.0))]
    boxes = make_boxes([list(place) for place in places])
    batch = make_batch([camera_frame(boxes)], codec)
    assert set(batch.positives.slot[batch.positives.valid].tolist()) == {0, 1}
    responses = {"depth_m": torch.ones(1, len(codec.grid(batch.images)))}
    assert codec.depth_at_centers(responses, batch)[0, :2].isfinite().tolist() == [True, False]


def test_scores_fall_with_uncertainty_and_spread_bins() -> None:
    depth = make_codec().depth

    def confidence(**responses: Tensor) -> Tensor:
        said = {"class_logits": torch.zeros(1, 2, 1), "centerness_logits": torch.zeros(1, 2)}
        return point_confidence({**said, **responses}, depth, None)

    torch.testing.assert_close(confidence(), torch.full((1, 2), 0.5))
    bins = torch.tensor([[[0.0, 0, 0, 0], [100.0, 0, 0, 0]]])
    torch.testing.assert_close(confidence(depth_bins=bins), torch.tensor([[0.125, 0.25]]))
    expected = torch.tensor([[0.5 * math.exp(-1), 0.5 * math.exp(-0.1)]])
    log_sigma = torch.tensor([[0.0, math.log(0.1)]])
    torch.testing.assert_close(confidence(log_sigma=log_sigma), expected)
    assert (confidence(log_sigma=torch.tensor([[20.0, 200.0]])) > 0).all()


def test_a_position_is_as_sure_as_simulated_depths_are_near() -> None:
    """Depth errors drawn from the law that is assumed, or that log_sigma states."""
    depth = make_codec().depth
    position = PositionConfidence(tolerances_m=(0.5, 2.0), relative_error=0.1)
    responses = {
        "class_logits": torch.zeros(1, 2, 1),
        "depth_m": torch.tensor([[10.0, 40.0]]),
    }
    random = np.random.default_rng(0)

    def drawn(scale: float) -> list[float]:
        errors = np.abs(random.laplace(scale=scale, size=200_000))
        return [float(np.mean([(errors * z < t).mean() for t in (0.5, 2.0)])) for z in (10, 40)]

    found = point_confidence(responses, depth, position)
    assert found[0].tolist() == pytest.approx(drawn(0.1), abs=0.005)
    responses["log_sigma"] = torch.full((1, 2), math.log(0.05 * math.sqrt(2) / depth.std_log))
    found = point_confidence(responses, depth, position)
    assert found[0].tolist() == pytest.approx(drawn(0.05), abs=0.005)
    responses["log_sigma"] = torch.full((1, 2), 200.0)
    assert (point_confidence(responses, depth, position) > 0).all()


def test_gather_points_takes_rows_of_any_width() -> None:
    values = torch.arange(24.0).reshape(2, 3, 4)
    index = torch.tensor([[2, 0], [1, 1]])
    assert torch.equal(gather_points(values, index)[0], values[0, [2, 0]])
    assert gather_points(values[..., 0], index).tolist() == [[8, 0], [16, 16]]


def test_responses_that_are_not_of_points_do_not_matter() -> None:
    codec = make_codec()
    batch = make_batch([camera_frame(make_boxes([[0, 0, 10.0]]))], codec)
    responses = responses_that_say(codec.targets(batch), codec)
    plain, _ = codec.decode(responses, batch, top_k=4)
    other, _ = codec.decode({**responses, "depth_map": torch.zeros(1, 8, 12)}, batch, top_k=4)
    assert torch.equal(plain.centers, other.centers)


def test_of_neighbours_on_a_level_only_the_best_speaks_for_a_class() -> None:
    codec = make_codec()
    batch = make_batch([camera_frame(Boxes3D.empty())], codec)
    grid = codec.grid(batch.images)
    width = IMAGE_SIZE[1] // codec.strides[0]
    first = 3 * width + 4
    rivals = {
        first: (4.0, 0),
        first + 1: (3.0, 0),
        first + width + 1: (2.0, 1),
        first + 3: (1.0, 0),
    }
    responses = {name: torch.zeros(1, len(grid), n) for name, n in RESPONSE_WIDTHS.items()}
    responses["class_logits"] -= 10
    for point, (logit, label) in rivals.items():
        responses["class_logits"][0, point, label] = logit
    responses["centerness_logits"] = torch.zeros(1, len(grid))
    responses["depth_m"] = torch.full((1, len(grid)), 10.0)
    boxes, scores = codec.decode(responses, batch, top_k=8)
    spoke = boxes.select(torch.tensor(0)).select(scores[0] > 0.1)
    said = list(zip(spoke.object_ids.tolist(), spoke.labels.tolist(), strict=True))
    assert said == [(first, 0), (first + width + 1, 1), (first + 3, 0)]


def test_decoded_sizes_are_bounded_whatever_the_network_says() -> None:
    codec = make_codec()
    batch = make_batch([camera_frame(make_boxes([[0, 0, 10.0]]))], codec)
    responses = responses_that_say(codec.targets(batch), codec)
    responses["log_dims"] = torch.full_like(responses["log_dims"], 1e6)
    boxes, _ = codec.decode(responses, batch, top_k=4)
    assert boxes.dims_hwl.isfinite().all()
    assert boxes.dims_hwl.max() <= 4.2 * math.exp(3) + 1e-3


def test_targets_agree_with_the_projected_centre_of_every_camera() -> None:
    codec = make_codec()
    batch = make_batch([surround_frame(7)], codec)
    targets = codec.targets(batch)
    grid = codec.grid(batch.images)
    said = grid.centers_px[targets.index] + (
        targets.offset * grid.strides_px[targets.index][..., None]
    )
    for camera in range(6):
        slots = targets.object_ids[camera][targets.valid[camera]]
        centers = batch.boxes_cam.centers[0, camera][slots]
        wanted = project(centers, batch.projection[0, camera])
        torch.testing.assert_close(
            said[camera][targets.valid[camera]], wanted, rtol=1e-4, atol=1e-3
        )
