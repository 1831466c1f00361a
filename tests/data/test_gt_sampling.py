"""Objects that are pasted lie where they lay, collide with nothing, and bring their points."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mono3d.data.gt_sampling import HasLidarObjects, ObjectPaster, points_in_boxes
from mono3d.geometry.box_iou import footprints_bev
from mono3d.geometry.fast_iou import pairwise_bev_iou
from mono3d.structures import Boxes3D, Frame
from tests.support.frames import surround_frame

FRAMES = 6


class Moments:
    """Moments of cameras all around, by seed."""

    def lidar_objects(self, index: int) -> tuple[Tensor, Boxes3D]:
        frame = surround_frame(index)
        assert frame.points is not None
        assert frame.boxes_bev is not None
        return frame.points, frame.boxes_bev


def paster(**changes: object) -> ObjectPaster:
    settings: dict[str, object] = {
        "source": Moments(),
        "frames_of_class": {0: np.arange(1, FRAMES), 1: np.arange(1, FRAMES)},
        "num_frames": 3,
        "per_class": 12,
    }
    return ObjectPaster(**(settings | changes))  # type: ignore[arg-type]


def pasted(seed: int = 0, *, cameras: int = 6, **changes: object) -> tuple[Frame, Frame]:
    frame = surround_frame(0, cameras=cameras)
    return frame, paster(**changes)(frame, torch.Generator().manual_seed(seed))


def new_boxes(before: Frame, after: Frame) -> Boxes3D:
    assert before.boxes_bev is not None
    assert after.boxes_bev is not None
    return after.boxes_bev.select(torch.arange(len(before.boxes_bev), len(after.boxes_bev)))


def test_a_frame_gets_more_objects_and_keeps_its_own() -> None:
    before, after = pasted()
    assert isinstance(Moments(), HasLidarObjects)
    assert before.boxes_bev is not None
    assert after.boxes_bev is not None
    assert len(new_boxes(before, after)) > 2
    torch.testing.assert_close(
        after.boxes_bev.centers[: len(before.boxes_bev)], before.boxes_bev.centers
    )
    assert len(after.boxes_bev.object_ids.unique()) == len(after.boxes_bev)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_pasted_collides_with_nothing(seed: int) -> None:
    before, after = pasted(seed)
    assert after.boxes_bev is not None
    boxes = after.boxes_bev
    found, _ = footprints_bev(boxes.centers, boxes.dims_hwl, boxes.yaw)
    iou = torch.from_numpy(pairwise_bev_iou(*(found.double().numpy(),) * 2))
    assert before.boxes_bev is not None
    rows = iou[len(before.boxes_bev) :].fill_diagonal_(0)
    number = torch.arange(len(rows))
    rows[number, number + len(before.boxes_bev)] = 0  # each with itself
    assert (rows == 0).all()


def test_objects_lie_where_they_lay_with_their_points() -> None:
    before, after = pasted()
    boxes = new_boxes(before, after)
    known = {
        tuple(c.tolist()) for i in range(1, FRAMES) for c in Moments().lidar_objects(i)[1].centers
    }
    assert {tuple(center.tolist()) for center in boxes.centers} <= known
    assert after.points is not None
    counts = points_in_boxes(after.points, boxes).sum(0)
    assert (counts >= 5).all()


def test_points_of_the_scene_do_not_stay_inside() -> None:
    frame = surround_frame(0)
    assert frame.points is not None
    everywhere = torch.rand(20000, 4) * torch.tensor([60.0, 60, 3, 1]) - torch.tensor(
        [30.0, 30, 0, 0]
    )
    filled = replace(frame, points=torch.cat([frame.points, everywhere]))
    after = paster()(filled, torch.Generator().manual_seed(0))
    boxes = new_boxes(frame, after)
    assert after.points is not None
    inside = points_in_boxes(after.points, boxes).any(1)
    sources = torch.cat([Moments().lidar_objects(i)[0] for i in range(1, FRAMES)])
    known = {tuple(point) for point in sources.tolist()}
    assert all(tuple(point) in known for point in after.points[inside].tolist())


def test_only_what_a_camera_would_see_is_pasted_and_labelled_there() -> None:
    before, after = pasted(cameras=1)
    boxes = new_boxes(before, after)
    assert len(boxes)
    assert after.boxes_cam is not None
    assert set(boxes.object_ids.tolist()) <= set(after.boxes_cam[0].object_ids.tolist())
    assert (boxes.centers[:, 0] > 0).all()  # the camera looks ahead


def test_classes_have_their_limit() -> None:
    frame, after = pasted(per_class=7, num_frames=5)
    assert frame.boxes_bev is not None
    assert after.boxes_bev is not None
    assert torch.bincount(after.boxes_bev.labels).tolist() == [7, 7]


def test_it_is_a_function_of_its_generator() -> None:
    _, first = pasted(3)
    _, second = pasted(3)
    _, third = pasted(4)
    assert first.points is not None
    assert second.points is not None
    assert third.points is not None
    assert torch.equal(first.points, second.points)
    assert not torch.equal(first.points, third.points)


def test_frames_without_labels_stay_as_they_are() -> None:
    frame = surround_frame(0, is_labelled=False)
    assert paster()(frame, torch.Generator()) is frame
    labelled = surround_frame(0)
    assert paster(frames_of_class={})(labelled, torch.Generator()) is labelled
