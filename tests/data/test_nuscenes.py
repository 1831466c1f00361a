"""Frames of a nuScenes folder: parity with nuscenes-devkit, and what is refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nuscenes import NuScenes
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion

from mono3d.codec.nuscenes_names import CAMERAS
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.errors import ConfigError, DataError
from mono3d.geometry.angles import wrap
from mono3d.geometry.boxes import yaw_bev_from_cam
from mono3d.geometry.camera import transform_points
from tests.support.nuscenes_tables import CLASSES, IMAGE_SIZE, VERSION, edit_table, write_tables

OpenDataset = Callable[..., NuScenesDataset]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("nuscenes"))


@pytest.fixture(scope="module")
def open_dataset(root: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenDataset:
    cache_dir = tmp_path_factory.mktemp("cache")

    def open_with(**changes: Any) -> NuScenesDataset:
        settings: dict[str, Any] = {"version": VERSION, "split": "all", "class_names": CLASSES}
        return NuScenesDataset(root, **settings | {"cache_dir": cache_dir} | changes)

    return open_with


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
    dataset = open_at(root, tmp_path)
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
    assert len(dataset.frame_labels(0)) == 0


@pytest.mark.parametrize(
    ("split", "samples"),
    [("tiny_val", ["scene-b-sample-0", "scene-b-sample-1"]), ("all", None)],
)
def test_splits(open_dataset: OpenDataset, split: str, samples: list[str] | None) -> None:
    dataset = open_dataset(split=split)
    every = open_dataset(surround=True).frame_ids
    assert dataset.sample_tokens == (samples or every)


def test_split_listed_in_a_file(open_dataset: OpenDataset, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("scene-b\nscene-a-sample-1\n")
    dataset = open_dataset(split=str(path))
    expected = ["scene-a-sample-1", "scene-b-sample-0", "scene-b-sample-1"]
    assert dataset.sample_tokens == expected
    assert dataset.describe().scenes == 2


def test_dataset_travels_to_workers(open_dataset: OpenDataset) -> None:
    dataset = open_dataset(split="tiny_val")
    content = pickle.dumps(dataset)
    assert len(content) < 4000, "the index is mapped again, not copied"
    copy = pickle.loads(content)
    assert copy.frame_ids == dataset.frame_ids
    torch.testing.assert_close(copy[3].images, dataset[3].images)
    torch.testing.assert_close(copy[3].boxes_cam[0].centers, dataset[3].boxes_cam[0].centers)


def test_fingerprint_follows_content_and_not_place(tmp_path: Path, root: Path) -> None:
    first, second = (open_at(write_tables(tmp_path / n), tmp_path) for n in ("a", "b"))
    assert first.fingerprint == second.fingerprint
    edit_table(tmp_path / "b", "sample_annotation", lambda rows: rows[0].update(num_lidar_pts=99))
    changed = open_at(tmp_path / "b", tmp_path)
    assert changed.fingerprint != first.fingerprint
    other_split = open_at(tmp_path / "a", tmp_path, split="tiny_val")
    assert other_split.fingerprint != first.fingerprint


def test_blobs_may_lie_elsewhere(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data")
    (tmp_path / "blobs").mkdir()
    (root / "samples").rename(tmp_path / "blobs" / "samples")
    dataset = open_at(root, tmp_path, blob_root=tmp_path / "blobs", with_points=True)
    assert dataset[0].points is not None


def open_at(root: Path, cache: Path, **changes: Any) -> NuScenesDataset:
    settings: dict[str, Any] = {"version": VERSION, "split": "all", "class_names": CLASSES}
    return NuScenesDataset(root, **settings | {"cache_dir": cache / "cache"} | changes)


def image_path(root: Path) -> Path:
    return root / "samples/CAM_FRONT/scene-a-sample-0__CAM_FRONT.jpg"


def sweep_path(root: Path) -> Path:
    return root / "samples/LIDAR_TOP/scene-a-sample-0__LIDAR_TOP.pcd.bin"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


BROKEN_BLOBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing image": (lambda r: image_path(r).unlink(), r"CAM_FRONT\.jpg: cannot be read"),
    "cut image": (lambda r: cut(image_path(r)), r"CAM_FRONT\.jpg: image is cut short"),
    "empty image": (lambda r: image_path(r).write_bytes(b""), "0 bytes"),
    "no image": (lambda r: image_path(r).write_bytes(b"text \xff\xd9"), "not a readable image"),
    "missing sweep": (lambda r: sweep_path(r).unlink(), r"LIDAR_TOP\.pcd\.bin: cannot be read"),
    "cut sweep": (lambda r: cut(sweep_path(r)), "33 bytes are no whole number of 20-byte points"),
    "NaN": (lambda r: np.full(5, np.nan, "f4").tofile(sweep_path(r)), "a point is not finite"),
    "size": (
        lambda r: edit_table(r, "sample_data", lambda rows: [x.update(width=65) for x in rows]),
        r"its table says \[36, 65\]",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN_BLOBS.values(), ids=BROKEN_BLOBS)
def test_broken_blob_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    root = write_tables(tmp_path / "data")
    spoil(root)
    dataset = open_at(root, tmp_path, with_points=True)
    with pytest.raises(DataError, match=message) as caught:
        dataset[0]
    assert "\n" not in str(caught.value)


def table_path(root: Path, table: str) -> Path:
    return root / VERSION / f"{table}.json"


BROKEN_TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda r: table_path(r, "ego_pose").unlink(), r"ego_pose\.json: table is missing"),
    "cut": (lambda r: cut(table_path(r, "sample_data")), r"sample_data\.json: not valid JSON"),
    "dangling": (
        lambda r: edit_table(r, "sample_data", lambda rows: rows[3].update(ego_pose_token="gone")),
        "tables do not fit together .*gone",
    ),
    "no map": (lambda r: (r / "maps" / "map.png").unlink(), "tables do not fit together .*map"),
    "zero size": (
        lambda r: edit_table(r, "sample_annotation", lambda rows: rows[2].update(size=[1, 0, 2])),
        r"annotation scene-a-object-1-0: size \[1, 0, 2\] .*must be > 0",
    ),
    "no LiDAR": (
        lambda r: edit_table(r, "sample_data", lambda rows: rows.pop(6)),
        "scene-a-sample-0: no LIDAR_TOP key frame",
    ),
    "no camera": (
        lambda r: edit_table(r, "sample_data", lambda rows: rows.pop(3)),
        "scene-a-sample-0 has no key frame of CAM_BACK",
    ),
    "no annotations": (
        lambda r: edit_table(r, "sample_annotation", lambda rows: rows.clear()),
        "no annotations, so it can only be read unlabelled",
    ),
    "scene not there": (
        lambda r: (r / VERSION / "splits.json").write_text(json.dumps({"all_of_it": ["scene-c"]})),
        "split 'all_of_it': 'scene-c' is neither a scene nor a sample token",
    ),
    "splits": (lambda r: (r / VERSION / "splits.json").write_text("[]"), "splits must map a name"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN_TABLES.values(), ids=BROKEN_TABLES)
def test_broken_table_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    root = write_tables(tmp_path / "data")
    spoil(root)
    split = "all_of_it" if "all_of_it" in message else "all"
    with pytest.raises(DataError, match=message) as caught:
        open_at(root, tmp_path, split=split)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"version": "v1.0-none"}, DataError, r"no such nuScenes version; .*\['v1.0-tiny'\]"),
        ({"split": "tiny_vall"}, DataError, "split 'tiny_vall': neither .*'tiny_val'"),
        ({"split": "mini_val"}, DataError, "split 'mini_val': 'scene-0103' is neither"),
        ({"split": "/nowhere/list.txt"}, DataError, "/nowhere/list.txt: list of samples cannot"),
        ({"cameras": ["CAM_TOP"]}, DataError, "no camera 'CAM_TOP'; it has"),
        ({"class_names": ["car", "van"]}, ConfigError, "class 'van' is not a nuScenes detection"),
        ({"class_names": []}, ConfigError, "name at least one class"),
    ],
)
def test_wrong_argument_is_named(
    open_dataset: OpenDataset, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        open_dataset(**changes)
    assert "\n" not in str(caught.value)
