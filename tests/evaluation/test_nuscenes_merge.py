"""Cameras of a sample brought together: frames, ranges, repeats."""

import math

import pytest
import torch

from mono3d.codec.nuscenes_poses import FramePose
from mono3d.evaluation.nuscenes_merge import MAX_BOXES, merge_cameras, to_global
from mono3d.structures import Boxes3D
from tests.support.detections import detections_at

CLASSES = ("car", "pedestrian")
CAMERA_HEIGHT_M = 1.5
EGO = (1000.0, 2000.0)


def pose_facing(yaw: float) -> FramePose:
    """A camera over the ego's origin that looks along `yaw` (about the global z axis)."""
    right, down = (math.sin(yaw), -math.cos(yaw), 0.0), (0.0, 0.0, -1.0)
    ahead = (math.cos(yaw), math.sin(yaw), 0.0)
    global_from_cam = torch.eye(4, dtype=torch.float64)
    global_from_cam[:3, :3] = torch.tensor([right, down, ahead], dtype=torch.float64).T
    global_from_cam[:3, 3] = torch.tensor([*EGO, CAMERA_HEIGHT_M])
    global_from_bev = torch.eye(4, dtype=torch.float64)
    global_from_bev[:2, 3] = torch.tensor(EGO)
    return FramePose(
        sample_token="sample",
        global_from_cam=global_from_cam[None],
        global_from_bev=global_from_bev,
    )


NORTH, EAST = pose_facing(math.pi / 2), pose_facing(0.0)


def test_camera_boxes_in_the_global_frame() -> None:
    # 10 m ahead and 2 m to the right of a camera that looks along +y, heading away from it at
    # 3 m/s: yaw -pi/2 in the camera frame is its z axis.
    seen = detections_at([[2.0, 0.5, 10.0]], yaw=-math.pi / 2, velocity=(0.0, 3.0))
    boxes = to_global(seen, NORTH).boxes
    assert boxes.centers[0].tolist() == pytest.approx([1002.0, 2010.0, 1.0])
    assert boxes.yaw.item() == pytest.approx(math.pi / 2)
    assert boxes.velocity[0].tolist() == pytest.approx([0.0, 3.0], abs=1e-6)


def test_global_places_keep_millimetres_far_from_the_origin() -> None:
    seen = detections_at([[0.0, 0.0, 10.001], [0.0, 0.0, 10.0]])
    depths = to_global(seen, NORTH).boxes.centers[:, 1]
    assert (depths[0] - depths[1]).item() == pytest.approx(0.001, rel=1e-2)


def test_one_object_in_two_cameras_counts_once_with_its_better_score() -> None:
    # 7 m north-east of the ego: the same place from both cameras, 1 m apart.
    north = detections_at([[7.0, 0.0, 7.0]], scores=[0.6])
    east = detections_at([[-7.0, 0.0, 8.0]], scores=[0.9])
    merged = merge_cameras([(north, NORTH), (east, EAST)], CLASSES)
    assert merged.scores.tolist() == pytest.approx([0.9])
    assert merged.boxes.centers[0, :2].tolist() == pytest.approx([1008.0, 2007.0])


def test_repeats_are_of_one_class_and_of_two_cameras() -> None:
    pair = [[0.0, 0.0, 10.0], [1.0, 0.0, 10.0]]
    one_camera = merge_cameras([(detections_at(pair), NORTH)], CLASSES)
    assert len(one_camera) == 2
    car = detections_at([[7.0, 0.0, 7.0]])
    pedestrian = detections_at([[-7.0, 0.0, 7.0]], labels=[1])
    assert len(merge_cameras([(car, NORTH), (pedestrian, EAST)], CLASSES)) == 2


def test_repeat_of_a_repeat_stays() -> None:
    # Three cars in a row, 1.5 m apart, scores falling, cameras alternating: the second repeats
    # the first and goes; the third is near the second only, so it stays.
    north = detections_at([[7.0, 0.0, 7.0], [7.0, 0.0, 10.0]], scores=[0.9, 0.5])
    east = detections_at([[-8.5, 0.0, 7.0]], scores=[0.7])
    merged = merge_cameras([(north, NORTH), (east, EAST)], CLASSES)
    assert merged.scores.tolist() == pytest.approx([0.9, 0.5])


def test_range_of_each_class_ends_at_the_ego_vehicle_distance() -> None:
    places = [[0.0, 0.0, 49.9], [0.0, 0.0, 50.1], [10.0, 0.0, 39.0], [0.0, 0.0, 39.9]]
    seen = detections_at(places, labels=[0, 0, 1, 1], scores=[0.4, 0.3, 0.2, 0.1])
    merged = merge_cameras([(seen, NORTH)], CLASSES)
    assert merged.scores.tolist() == pytest.approx([0.4, 0.1])


def test_weak_boxes_go_and_the_best_500_stay() -> None:
    crowd = detections_at([[0.0, 0.0, 10.0]] * 600, scores=[i / 600 for i in range(600)])
    merged = merge_cameras([(crowd, NORTH)], CLASSES)
    assert len(merged) == MAX_BOXES
    assert merged.scores[0].item() == pytest.approx(599 / 600)
    assert merged.scores.tolist() == sorted(merged.scores.tolist(), reverse=True)
    weak = detections_at([[0.0, 0.0, 10.0]], scores=[0.009])
    assert len(merge_cameras([(weak, NORTH)], CLASSES)) == 0


def test_nothing_seen_and_no_camera() -> None:
    assert len(merge_cameras([], CLASSES)) == 0
    nothing = detections_at([])
    assert len(nothing.boxes) == len(Boxes3D.empty())
    merged = merge_cameras([(nothing, NORTH), (detections_at([[0.0, 0.0, 9.0]]), EAST)], CLASSES)
    assert len(merged) == 1
