"""Frames of a nuScenes folder: parity with nuscenes-devkit, and what is refused."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nuscenes import NuScenes
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion
from torch import Tensor

from mono3d.codec.nuscenes_names import CAMERAS, DETECTION_CLASSES
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.errors import ConfigError, DataError
from mono3d.geometry.angles import wrap
from mono3d.geometry.boxes import yaw_bev_from_cam
from mono3d.geometry.camera import transform_points
from mono3d.structures import Boxes3D
from tests.support.nuscenes_tables import IMAGE_SIZE, VERSION, edit_table, open_tiny, write_tables

OpenDataset = Callable[..., NuScenesDataset]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("nuscenes"))


@pytest.fixture(scope="module")
def open_dataset(root: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenDataset:
    cache_dir = tmp_path_factory.mktemp("cache")

    return partial(open_tiny, root, cache_dir)


@pytest.fixture(scope="module")
def devkit(root: Path) -> NuScenes:
    return NuScenes(VERSION, str(root), verbose=False)


def devkit_boxes(devkit: NuScenes, sample_data: str) -> dict[int, Box]:
    """Boxes that the devkit puts in a sensor's frame, by number of the annotation."""
    sample = devkit.get("sample", devkit.get("sample_data", sample_data)["sample_token"])
    _, boxes, _ = devkit.get_sample_data(sample_data)
    return {sample["anns"].index(box.token): box for box in boxes if box.name != "animal"}


def test_one_frame_for_each_camera_or_for_each_sample(open_dataset: OpenDataset) -> None:
    monocular, surround = open_dataset(), open_dataset(surround=True)
    assert (len(monocular), len(surround)) == (24, 4)
    assert monocular.frame_ids[1] == "scene-a-sample-0-CAM_FRONT_RIGHT"
    assert surround.frame_ids == [f"scene-{s}-sample-{i}" for s in "ab" for i in (0, 1)]
    frame = surround[2]
    assert (frame.frame_id, frame.camera_names) == ("scene-b-sample-0", CAMERAS)
    assert frame.images.shape == (6, 3, *IMAGE_SIZE)
    assert [monocular[i].frame_id for i in range(24)] == monocular.frame_ids
    with pytest.raises(IndexError):
        monocular[24]


def test_camera_boxes_are_those_of_the_devkit(open_dataset: OpenDataset, devkit: NuScenes) -> None:
    num_boxes = 0
    for frame in open_dataset():
        assert frame.boxes_cam is not None
        expected = devkit_boxes(devkit, frame.frame_id)
        boxes = frame.boxes_cam[0]
        # The devkit asks for one corner in the image, the hull for any part of the box.
        assert set(boxes.object_ids.tolist()) >= set(expected)
        for i, object_id in enumerate(boxes.object_ids.tolist()):
            if object_id not in expected:
                continue
            box = expected[object_id]
            torch.testing.assert_close(boxes.centers[i].double(), torch.from_numpy(box.center))
            assert boxes.dims_hwl[i].tolist() == pytest.approx(box.wlh[[2, 0, 1]])
            forward = box.orientation.rotate(np.array([1.0, 0, 0]))
            yaw = float(np.arctan2(-forward[2], forward[0]))
            assert float(wrap(boxes.yaw[i] - yaw)) == pytest.approx(0, abs=1e-5)
            num_boxes += 1
    assert num_boxes > 20


def test_bev_boxes_are_those_of_the_devkit_in_the_ego_frame(
    open_dataset: OpenDataset, devkit: NuScenes
) -> None:
    for frame in open_dataset(surround=True):
        assert frame.boxes_bev is not None
        token = devkit.get("sample", frame.frame_id)["data"]["LIDAR_TOP"]
        record = devkit.get("sample_data", token)
        mount = devkit.get("calibrated_sensor", record["calibrated_sensor_token"])
        expected = devkit_boxes(devkit, token)
        assert frame.boxes_bev.object_ids.tolist() == sorted(expected)
        for i, number in enumerate(frame.boxes_bev.object_ids.tolist()):
            box = expected[number]
            box.rotate(Quaternion(mount["rotation"]))
            box.translate(np.array(mount["translation"]))
            center = torch.from_numpy(box.center)
            torch.testing.assert_close(frame.boxes_bev.centers[i].double(), center)
            yaw = float(np.arctan2(*box.orientation.rotate(np.array([1.0, 0, 0]))[[1, 0]]))
            assert float(wrap(frame.boxes_bev.yaw[i] - yaw)) == pytest.approx(0, abs=1e-5)


def test_camera_boxes_and_bev_boxes_agree_through_bev_from_cam(open_dataset: OpenDataset) -> None:
    frame = open_dataset(surround=True)[3]
    assert frame.boxes_cam is not None
    assert frame.boxes_bev is not None
    for boxes, bev_from_cam in zip(frame.boxes_cam, frame.bev_from_cam, strict=True):
        row = torch.searchsorted(frame.boxes_bev.object_ids, boxes.object_ids)
        same = frame.boxes_bev.select(row)
        centers = transform_points(boxes.centers, bev_from_cam)
        torch.testing.assert_close(centers, same.centers, atol=1e-3, rtol=0)
        turn = wrap(yaw_bev_from_cam(boxes.yaw, bev_from_cam) - same.yaw)
        assert turn.abs().max() < 2e-3  # the camera is pitched by a degree
        speed, bev_speed = boxes.velocity.norm(dim=-1), same.velocity.norm(dim=-1)
        torch.testing.assert_close(speed, bev_speed, atol=5e-3, rtol=5e-3)


def test_camera_moves_between_its_time_and_the_time_of_the_sweep(
    open_dataset: OpenDataset,
) -> None:
    frame = open_dataset(surround=True)[0]
    # The front camera fires 60 ms before the sweep, at 8 m/s; it sits 1.5 m before the ego origin.
    assert frame.bev_from_cam[0, 0, 3].item() == pytest.approx(1.5 - 0.06 * 8, abs=0.01)


def test_velocity_attribute_points_and_visibility(open_dataset: OpenDataset) -> None:
    frame = open_dataset(surround=True)[0]
    boxes = frame.boxes_bev
    assert boxes is not None
    cars = boxes.select(boxes.labels == 0)
    assert cars.velocity.norm(dim=-1).tolist() == pytest.approx([5**0.5] * 2, rel=1e-3)
    assert cars.attributes.tolist() == [5, 5]
    pedestrians = boxes.select(boxes.labels == 1)
    assert pedestrians.attributes.tolist() == [2, 2]
    assert pedestrians.velocity.abs().max() == 0
    # Objects 4 and 9 are animals: dropped, but counted.
    assert boxes.object_ids.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert boxes.num_points.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert boxes.visibility[:4].tolist() == pytest.approx([0.2, 0.5, 0.7, 0.9])
    assert boxes.attributes[2].item() == -1


def test_object_seen_once_has_no_velocity(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data")
    edit_table(root, "sample_annotation", lambda rows: [r.update(prev="", next="") for r in rows])
    dataset = open_tiny(root, tmp_path)
    boxes = dataset[0].boxes_bev
    assert boxes is not None
    assert boxes.velocity.isnan().all()


def test_pixels_are_rgb_and_points_are_in_the_bev_frame(open_dataset: OpenDataset) -> None:
    frame = open_dataset(with_points=True)[0]
    assert frame.images[0, :, 10, 10].tolist() == pytest.approx([200, 90, 30], abs=4)
    # LiDAR y axis points backwards-right: its (0, 10) is forward in the ego frame.
    expected = torch.tensor([[0.9 + 10, 0, 0, 1], [0.9, -3, 0.84, 0.2]])
    torch.testing.assert_close(frame.points, expected, atol=1e-5, rtol=0)


def test_labels_follow_the_class_list_of_the_run(open_dataset: OpenDataset) -> None:
    dataset = open_dataset(class_names=["truck", "car"], surround=True)
    boxes = dataset[0].boxes_bev
    assert boxes is not None
    assert boxes.object_ids.tolist() == [0, 3, 5, 8]
    assert boxes.labels.tolist() == [1, 0, 1, 0]
    assert dataset.describe().objects == {"truck": 8, "car": 8}


def test_frame_labels_are_those_of_the_boxes(open_dataset: OpenDataset) -> None:
    dataset = open_dataset()
    for index, frame in enumerate(dataset):
        assert frame.boxes_cam is not None
        assert dataset.frame_labels(index).tolist() == frame.boxes_cam[0].labels.tolist()


def test_unlabelled_frames_have_no_boxes(open_dataset: OpenDataset) -> None:
    dataset = open_dataset(has_labels=False)
    assert dataset[0].boxes_cam is None
    assert dataset[0].boxes_bev is None
    assert dataset.frame_labels(0) is None
    assert [len(boxes) for boxes, _ in dataset.camera_labels(0)] == [0]
    assert dataset.describe().objects["car"] == 0


def test_dataset_travels_to_workers(open_dataset: OpenDataset) -> None:
    dataset = open_dataset(split="tiny_val")
    content = pickle.dumps(dataset)
    assert len(content) < 4000, "the index is mapped again, not copied"
    copy = pickle.loads(content)
    assert copy.frame_ids == dataset.frame_ids
    torch.testing.assert_close(copy[3].images, dataset[3].images)
    torch.testing.assert_close(copy[3].boxes_cam[0].centers, dataset[3].boxes_cam[0].centers)


def test_fingerprint_follows_content_and_not_place(tmp_path: Path, root: Path) -> None:
    first, second = (open_tiny(write_tables(tmp_path / n), tmp_path) for n in ("a", "b"))
    assert first.fingerprint == second.fingerprint
    edit_table(tmp_path / "b", "sample_annotation", lambda rows: rows[0].update(num_lidar_pts=99))
    changed = open_tiny(tmp_path / "b", tmp_path)
    assert changed.fingerprint != first.fingerprint
    other_split = open_tiny(tmp_path / "a", tmp_path, split="tiny_val")
    assert other_split.fingerprint != first.fingerprint


def test_blobs_may_lie_elsewhere(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data")
    (tmp_path / "blobs").mkdir()
    (root / "samples").rename(tmp_path / "blobs" / "samples")
    dataset = open_tiny(root, tmp_path, blob_root=tmp_path / "blobs", with_points=True)
    assert dataset[0].points is not None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"version": "v1.0-none"}, DataError, r"no such nuScenes version; .*\['v1.0-tiny'\]"),
        ({"cameras": ["CAM_TOP"]}, DataError, r"cameras \['CAM_TOP'\]: choose from \['CAM_FRONT'"),
        ({"cameras": []}, DataError, r"cameras \[\]: choose from"),
        ({"class_names": []}, ConfigError, "name at least one class"),
    ],
)
def test_wrong_argument_is_named(
    open_dataset: OpenDataset, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        open_dataset(**changes)
    assert "\n" not in str(caught.value)


def points_inside(points: Tensor, boxes: Boxes3D, ground: tuple[int, int], up: int) -> Tensor:
    """Points in each box; `ground` are the axes between which the yaw turns, from first to second.

    In the camera frame that is from x to -z, so the second axis comes with its sign reversed.
    """
    offset = points[None] - boxes.centers[:, None]
    first, second = offset[..., ground[0]], offset[..., ground[1]] * (-1 if up == 1 else 1)
    cos, sin = boxes.yaw.cos()[:, None], boxes.yaw.sin()[:, None]
    height, width, length = (boxes.dims_hwl[..., None] / 2).unbind(1)
    along, across = first * cos + second * sin, second * cos - first * sin
    is_inside = (along.abs() <= length) & (across.abs() <= width)
    return (is_inside & (offset[..., up].abs() <= height)).sum(1)


@pytest.mark.real_data
def test_real_boxes_hold_the_lidar_points_that_nuscenes_counted(
    real_data: Path, tmp_path: Path
) -> None:
    dataset = NuScenesDataset(
        real_data / "nuscenes" / "tiny_images",
        version="v1.0-mini",
        split="all",
        class_names=DETECTION_CLASSES,
        surround=True,
        with_points=True,
        cache_dir=tmp_path,
    )
    assert dataset.describe().objects["car"] == 33
    for frame in dataset:
        assert frame.points is not None
        assert frame.boxes_bev is not None
        assert frame.boxes_cam is not None
        assert frame.images.shape == (6, 3, 900, 1600)
        points = frame.points[:, :3]
        counted = [(points_inside(points, frame.boxes_bev, (0, 1), 2), frame.boxes_bev)]
        for boxes, bev_from_cam in zip(frame.boxes_cam, frame.bev_from_cam, strict=True):
            seen = transform_points(points, torch.linalg.inv(bev_from_cam))
            counted.append((points_inside(seen, boxes, (0, 2), 1), boxes))
        for counts, boxes in counted:
            difference = (counts - boxes.num_points).abs().sum()
            assert difference <= 3 + 0.05 * boxes.num_points.sum()
