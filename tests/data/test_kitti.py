"""KITTI folders as frames: which ones, what is in them, and what is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from mono3d.data.kitti import KittiDataset, frames_of_split
from mono3d.data.sampling import FrameDataset
from mono3d.errors import ConfigError, DataError
from mono3d.geometry.boxes import corners_bev, corners_cam, hull_2d
from mono3d.geometry.camera import transform_points
from tests.support.kitti_folder import CALIBRATION, FRAMES, IMAGE_SIZE, P2, VAN, write_kitti

CLASSES = ("Car", "Pedestrian", "Cyclist")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_kitti(tmp_path / "kitti")


def opened(root: Path, split: str = "all", **changes: object) -> KittiDataset:
    return KittiDataset(root, **{"split": split, "class_names": CLASSES, **changes})  # type: ignore[arg-type]


def test_a_frame_holds_image_camera_and_boxes(root: Path) -> None:
    dataset = opened(root, with_points=True)
    assert isinstance(dataset, FrameDataset)
    frame = dataset[0]
    assert frame.images.shape == (1, 3, *IMAGE_SIZE)
    assert frame.projection[0, 0].tolist() == pytest.approx([721.5, 0, 609.5, 44.86])
    assert frame.boxes_cam is not None
    assert frame.boxes_cam[0].labels.tolist() == [0, 1]
    assert frame.boxes_cam[0].visibility.tolist() == pytest.approx([1.0, 0.2])
    assert frame.boxes_cam[0].velocity.isnan().all()
    assert frame.points is not None
    assert frame.points.shape == (200, 4)


def test_boxes_in_both_frames_are_the_same_cuboids(root: Path) -> None:
    frame = opened(root)[0]
    assert frame.boxes_cam is not None
    assert frame.boxes_bev is not None
    cam, bev, pose = frame.boxes_cam[0], frame.boxes_bev, frame.bev_from_cam[0]
    moved = transform_points(corners_cam(cam.centers, cam.dims_hwl, cam.yaw), pose)
    torch.testing.assert_close(
        moved, corners_bev(bev.centers, bev.dims_hwl, bev.yaw), rtol=0, atol=1e-3
    )


def test_without_a_velodyne_bev_is_where_the_camera_is(root: Path) -> None:
    for name in FRAMES:
        (root / "training" / "calib" / f"{name}.txt").write_text(f"P2: {P2}\n")
    frame = opened(root)[0]
    assert frame.boxes_bev is not None
    assert frame.boxes_bev.centers[1].tolist() == pytest.approx([8.41, -1.84, -0.525], abs=1e-5)


def test_types_that_are_not_learnt_are_dropped_and_mapped_ones_count(root: Path) -> None:
    assert opened(root).frame_labels(1).tolist() == []
    mapped = opened(root, label_map={"Van": "Car"})
    assert mapped.frame_labels(1).tolist() == [0]
    assert mapped[1].boxes_bev is not None
    assert mapped.fingerprint != opened(root).fingerprint


def test_a_type_of_nobodys_is_refused_unless_it_is_mapped(root: Path) -> None:
    path = root / "training" / "label_2" / "000001.txt"
    path.write_text(VAN.replace("Van", "Scooter") + "\n")
    with pytest.raises(DataError, match=r"000001\.txt: type Scooter is neither KITTI's"):
        opened(root)
    assert opened(root, label_map={"Scooter": "Cyclist"}).frame_labels(1).tolist() == [2]
    assert opened(root, label_map={"Scooter": None}).frame_labels(1).tolist() == []
    with pytest.raises(ConfigError, match="label_map Scooter: Cyclists: must be null or one of"):
        opened(root, label_map={"Scooter": "Cyclists"})


def test_own_classes_need_no_map(root: Path) -> None:
    path = root / "training" / "label_2" / "000001.txt"
    path.write_text(VAN.replace("Van", "forklift") + "\n")
    own = KittiDataset(root, split="all", class_names=("forklift",))
    assert [own.frame_labels(i).tolist() for i in range(3)] == [[], [0], []]


def test_frames_without_objects_are_legal(root: Path) -> None:
    frame = opened(root, "val")[0]
    assert frame.boxes_cam is not None
    assert len(frame.boxes_cam[0]) == 0


def test_testing_frames_are_unlabelled(root: Path) -> None:
    dataset = opened(root, "test")
    frame = dataset[0]
    assert frame.boxes_cam is None
    assert frame.boxes_bev is None
    assert dataset.frame_labels(0) is None
    assert opened(root, "train", has_labels=False)[0].boxes_cam is None


def test_labels_are_known_without_images(root: Path) -> None:
    dataset = opened(root)
    for path in (root / "training" / "image_2").iterdir():
        path.unlink()
    assert dataset.frame_labels(0).tolist() == [0, 1]
    ((boxes, projection),) = dataset.camera_labels(0)
    assert len(boxes) == 2
    assert projection.shape == (3, 4)
    with pytest.raises(DataError, match=r"000000\.png: cannot be read"):
        dataset[0]


def test_jpeg_images_are_read_too(root: Path) -> None:
    import cv2

    path = root / "training" / "image_2" / "000000.png"
    cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
    path.unlink()
    assert opened(root)[0].images.shape == (1, 3, *IMAGE_SIZE)
    assert opened(root).frame_ids == list(FRAMES)


def test_a_link_to_nowhere_is_a_frame_that_cannot_be_read(root: Path) -> None:
    image = root / "training" / "image_2" / "000001.png"
    image.unlink()
    image.symlink_to("nowhere.png")
    dataset = opened(root)
    assert dataset.frame_ids == list(FRAMES)
    with pytest.raises(DataError, match=r"000001\.png: cannot be read"):
        dataset[1]


def test_a_pickled_data_set_reads_the_same(root: Path) -> None:
    dataset = opened(root, with_points=True)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.fingerprint == dataset.fingerprint
    assert torch.equal(again[1].images, dataset[1].images)


def test_the_fingerprint_sees_labels_and_calibrations(root: Path) -> None:
    before = opened(root).fingerprint
    assert opened(root).fingerprint == before
    path = root / "training" / "calib" / "000002.txt"
    path.write_text(CALIBRATION.replace("609.5", "609.6"))
    assert opened(root).fingerprint != before


def test_splits(root: Path, tmp_path: Path) -> None:
    assert frames_of_split(root, "train") == ["000000", "000001"]
    own = tmp_path / "mine.txt"
    own.write_text("000002\n000000\n")
    assert frames_of_split(root, str(own)) == ["000002", "000000"]
    own.write_text("")
    with pytest.raises(DataError, match="names no frame"):
        frames_of_split(root, str(own))
    with pytest.raises(DataError, match="split trian: neither"):
        frames_of_split(root, "trian")
    with pytest.raises(DataError, match="no KITTI folder"):
        frames_of_split(tmp_path / "elsewhere", "all")


def test_official_splits_come_with_the_package(tmp_path: Path) -> None:
    lists = {name: frames_of_split(tmp_path, name) for name in ("train", "val", "trainval", "test")}
    assert {name: len(frames) for name, frames in lists.items()} == {
        "train": 3712, "val": 3769, "trainval": 7481, "test": 7518,
    }  # fmt: skip
    assert not set(lists["train"]) & set(lists["val"])
    assert sorted([*lists["train"], *lists["val"]]) == lists["trainval"]
    assert lists["train"][:3] == ["000000", "000003", "000007"]


@pytest.mark.real_data
def test_real_boxes_project_on_to_their_labelled_rectangles(real_data: Path) -> None:
    dataset = KittiDataset(real_data / "kitti", split="all", class_names=CLASSES, with_points=False)
    assert len(dataset) == 20
    overlaps = []
    for index in range(len(dataset)):
        ((boxes, projection),) = dataset.camera_labels(index)
        labels = dataset._labels[index]
        wanted = labels.boxes_px[boxes.object_ids.numpy()]
        untruncated = labels.truncated[boxes.object_ids.numpy()] < 0.05
        corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
        hulls = hull_2d(corners, projection, (380, 1250))[0].numpy()
        low, high = np.maximum(hulls[:, :2], wanted[:, :2]), np.minimum(hulls[:, 2:], wanted[:, 2:])
        shared = (high - low).clip(min=0).prod(axis=1)
        areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (hulls, wanted)]
        overlaps += (shared / (areas[0] + areas[1] - shared))[untruncated].tolist()
    assert len(overlaps) > 50
    assert np.median(overlaps) > 0.85


@pytest.mark.real_data
def test_real_sweeps_fall_into_their_boxes(real_data: Path, tmp_path: Path) -> None:
    names = sorted(path.stem for path in (real_data / "kitti/training/velodyne").glob("*.bin"))
    (tmp_path / "with_points.txt").write_text("\n".join(names))
    dataset = KittiDataset(
        real_data / "kitti",
        split=str(tmp_path / "with_points.txt"),
        class_names=CLASSES,
        with_points=True,
    )
    counts = []
    for index in range(len(dataset)):
        frame = dataset[index]
        assert frame.points is not None
        assert frame.boxes_bev is not None
        bev = frame.boxes_bev
        for center, dims, yaw in zip(bev.centers, bev.dims_hwl, bev.yaw, strict=True):
            cos, sin = yaw.cos(), yaw.sin()
            turn = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
            local = frame.points[:, :3] - center
            inside = ((local[:, :2] @ turn).abs() < dims[[2, 1]] / 2).all(dim=1)
            counts.append(int((inside & (local[:, 2].abs() < dims[0] / 2)).sum()))
    assert len(counts) >= 8
    assert np.mean([count > 0 for count in counts]) > 0.9
