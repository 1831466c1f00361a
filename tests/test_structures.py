"""Structures: changing every tensor, selecting, and the rules a frame keeps."""

from dataclasses import FrozenInstanceError, fields

import pytest
import torch

from mono3d.structures import Boxes3D, Detections, Frame, map_tensors, to_device


def _boxes(count: int) -> Boxes3D:
    order = torch.arange(count)
    return Boxes3D(
        centers=torch.arange(count * 3, dtype=torch.float32).reshape(count, 3),
        dims_hwl=torch.ones(count, 3),
        yaw=order.float(),
        labels=order,
        velocity=torch.full((count, 2), torch.nan),
        attributes=torch.full((count,), -1),
        object_ids=order + 100,
        num_points=order,
        visibility=torch.ones(count),
        valid=torch.ones(count, dtype=torch.bool),
    )


def _frame(boxes_cam: tuple[Boxes3D, ...] | None, boxes_bev: Boxes3D | None) -> Frame:
    return Frame(
        frame_id="0001",
        camera_names=("front", "back"),
        images=torch.zeros(2, 3, 4, 6, dtype=torch.uint8),
        projection=torch.zeros(2, 3, 4),
        bev_from_cam=torch.eye(4).expand(2, 4, 4),
        boxes_cam=boxes_cam,
        boxes_bev=boxes_bev,
    )


def test_empty_boxes_are_empty_in_every_field() -> None:
    empty = Boxes3D.empty()
    assert len(empty) == 0
    assert all(len(getattr(empty, field.name)) == 0 for field in fields(empty))


def test_select_by_index_and_by_mask_takes_the_same_boxes_in_every_field() -> None:
    boxes = _boxes(4)
    chosen = boxes.select(torch.tensor([3, 1]))
    assert chosen.yaw.tolist() == [3, 1]
    assert chosen.object_ids.tolist() == [103, 101]
    assert chosen.centers.tolist() == [[9, 10, 11], [3, 4, 5]]
    masked = boxes.select(torch.tensor([False, True, False, True]))
    assert masked.labels.tolist() == [1, 3]


def test_detections_select_keeps_scores_with_their_boxes() -> None:
    detections = Detections(boxes=_boxes(3), scores=torch.tensor([0.9, 0.5, 0.1]))
    best = detections.select(torch.tensor([2, 0]))
    assert len(best) == 2
    assert best.boxes.labels.tolist() == [2, 0]
    torch.testing.assert_close(best.scores, torch.tensor([0.1, 0.9]))


def test_map_tensors_reaches_nested_structures_and_leaves_the_rest() -> None:
    frame = _frame((_boxes(1), _boxes(2)), _boxes(2))
    moved = map_tensors(frame, torch.ones_like)
    assert moved.frame_id == "0001"
    assert moved.camera_names == ("front", "back")
    assert moved.points is None
    assert moved.images.eq(1).all()
    assert moved.boxes_cam is not None
    assert moved.boxes_cam[1].labels.tolist() == [1, 1]
    assert frame.images.eq(0).all()
    mapping = map_tensors({"depth": torch.ones(2)}, lambda tensor: tensor * 3)
    assert mapping["depth"].tolist() == [3, 3]


def test_to_device_moves_every_tensor() -> None:
    moved = to_device(_frame((_boxes(1), _boxes(2)), _boxes(2)), "meta")
    assert moved.images.is_meta
    assert moved.boxes_cam is not None
    assert moved.boxes_cam[0].centers.is_meta


def test_frames_are_labelled_in_both_coordinate_frames_or_in_none() -> None:
    assert _frame(None, None).boxes_cam is None
    with pytest.raises(ValueError, match="frame 0001: labelled in one coordinate frame only"):
        _frame(None, _boxes(1))
    with pytest.raises(ValueError, match="frame 0001: 2 images but 1 sets of boxes"):
        _frame((_boxes(1),), _boxes(1))


def test_structures_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        _boxes(1).yaw = torch.zeros(1)  # type: ignore[misc]
