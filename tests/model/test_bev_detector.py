from dataclasses import replace

import pytest
import torch

from mono3d.errors import DataError
from mono3d.structures import Batch, Inputs
from tests.support.bev import (
    BINS,
    GRID,
    HEADS,
    STRIDE,
    Head,
    make_bev_batch,
    make_bev_codec,
    make_bev_detector,
)
from tests.support.frames import surround_frame


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> Head:
    head: Head = request.param
    return head


def batch_for(head: Head, *, cameras: int = 6, depth: bool = False) -> Batch:
    frames = [surround_frame(seed, cameras=cameras) for seed in range(2)]
    return make_bev_batch(frames, make_bev_codec(head), depth_input="lidar" if depth else None)


@pytest.mark.parametrize("cameras", [1, 6])
def test_it_says_what_it_declares(head: Head, cameras: int) -> None:
    detector, batch = make_bev_detector(head).eval(), batch_for(head, cameras=cameras)
    said = detector(batch)
    places = len(GRID) * (4 if head == "anchors" else 1)
    for name, channels in detector.responses.items():
        assert said.responses[name].shape == (2, places, channels), name
    images = 2 * cameras
    assert said.responses["depth_logits"].shape == (images, BINS.count + 1, 8, 12)
    assert said.responses["depth_m"].shape == (images, 8 * 12)
    assert set(said.features) == set(detector.features)
    for name, (channels, stride) in detector.features.items():
        found = said.features[name]
        if name.startswith("bev"):
            assert found.shape == (2, channels, *GRID.size), name
        else:
            assert found.shape[:2] == (images, channels), name
            assert found.shape[2] == 64 // stride, name


def test_depth_is_within_the_range_of_the_bins(head: Head) -> None:
    depth_m = make_bev_detector(head)(batch_for(head)).responses["depth_m"]
    assert depth_m.min() >= BINS.min_m
    assert depth_m.max() <= BINS.max_m


def test_boxes_learn_the_backbone_through_the_lift(head: Head) -> None:
    detector, batch = make_bev_detector(head), batch_for(head)
    detector(batch).responses["class_logits"].square().sum().backward()
    weights = dict(detector.named_parameters())
    unused = [name for name, w in weights.items() if w.requires_grad and w.grad is None]
    heads = ("head.", "depth.logits")
    assert all(name.startswith(heads) for name in unused), unused
    for part in ("trunk.backbone", "trunk.neck", "depth.tower", "depth.camera_gate", "collapse"):
        gradients = [w.grad for name, w in weights.items() if name.startswith(part)]
        assert any(g is not None and g.abs().sum() > 0 for g in gradients), part


def test_an_object_of_another_camera_changes_another_part_of_the_grid(head: Head) -> None:
    detector, batch = make_bev_detector(head).eval(), batch_for(head)
    images = batch.images.clone()
    images[:, 3] = 255 - images[:, 3]  # looks backwards
    first = detector(batch).features["bev_lifted"]
    second = detector(replace(batch, images=images)).features["bev_lifted"]
    # Group norm carries a little everywhere; what was lifted elsewhere moves far less.
    change = (second - first).abs().mean((0, 1, 2))
    ahead, behind = change[-8:].mean(), change[:8].mean()
    assert behind > 3 * ahead


def test_with_true_depth_features_lie_where_it_says(head: Head) -> None:
    """A cell whose pixels agree has all of itself in one bin."""
    detector = make_bev_detector(head, depth_use="lift")
    depth_m = torch.zeros(1, 1, 64, 96)
    depth_m[0, 0, 16:24, 40:48] = 11.0
    told, is_known = detector.depth.told(depth_m, STRIDE)
    assert told.sum() == is_known.sum() == 1
    assert told[0, int(BINS.index(torch.tensor(11.0))), 2, 5] == 1


def test_cells_have_the_share_of_their_known_pixels_in_each_bin(head: Head) -> None:
    """Of a cell at the edge of an object: not one depth between it and what is behind."""
    detector = make_bev_detector(head, depth_use="lift")
    depth_m = torch.zeros(2, 1, 61, 93)  # the last row and column of cells are cut
    depth_m[1, 0, 0, 0], depth_m[1, 0, 7, 6:8] = 10.0, 20.0
    depth_m[1, 0, 60, 92] = 30.0
    depth_m[0, 0, 30, 30] = 90.0  # beyond the bins
    told, is_known = detector.depth.told(depth_m, STRIDE)
    assert told.shape == (2, BINS.count, 8, 12)
    near, far, corner = BINS.index(torch.tensor([10.0, 20.0, 30.0])).tolist()
    assert told[1, near, 0, 0] == pytest.approx(1 / 3)
    assert told[1, far, 0, 0] == pytest.approx(2 / 3)
    assert told[1, corner, 7, 11] == 1
    assert told.sum() == pytest.approx(2)
    assert is_known.nonzero().tolist() == [[0, 0, 3, 3], [1, 0, 0, 0], [1, 0, 7, 11]]


def test_where_no_depth_is_known_an_assistant_lifts_by_what_it_says(head: Head) -> None:
    batch = batch_for(head, depth=True)
    assert batch.depth_input is not None
    assistant, student = make_bev_detector(head, depth_use="lift"), make_bev_detector(head)
    blind = replace(batch, depth_input=torch.zeros_like(batch.depth_input))
    assert torch.equal(
        assistant.eval()(blind).features["bev_lifted"],
        student.eval()(batch).features["bev_lifted"],
    )


def test_an_assistant_reads_its_depth_and_says_so_without(head: Head) -> None:
    batch = batch_for(head, depth=True)
    assistant = make_bev_detector(head, depth_use="lift").eval()
    assert batch.depth_input is not None
    first = assistant(batch).responses["class_logits"]
    moved = replace(batch, depth_input=batch.depth_input * 1.3)
    assert not torch.equal(assistant(moved).responses["class_logits"], first)
    with pytest.raises(DataError, match=r"model\.depth_input reads true depth"):
        assistant(replace(batch, depth_input=None))
    student = make_bev_detector(head).eval()
    alone = replace(batch, depth_input=None, points=None, point_offsets=None)
    assert torch.equal(
        student(batch).responses["class_logits"], student(alone).responses["class_logits"]
    )


def test_what_depth_says_depends_on_the_camera(head: Head) -> None:
    detector, batch = make_bev_detector(head).eval(), batch_for(head)
    poses = batch.bev_from_cam.clone()
    poses[..., 2, 3] += 1.0
    higher = Inputs(images=batch.images, projection=batch.projection, bev_from_cam=poses)
    assert not torch.equal(
        detector(higher).responses["depth_logits"], detector(batch).responses["depth_logits"]
    )
