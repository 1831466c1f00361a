"""What our reader makes of a written scene, against the world that it was written from."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mono3d.data.kitti import KittiDataset
from mono3d.data.kitti_format import KittiLabels, read_labels, read_velodyne
from mono3d.data.synthetic.kitti_calibration import Calibration, calibrate
from mono3d.data.synthetic.kitti_labels import kitti_type
from mono3d.data.synthetic.kitti_rig import HDL_64E
from mono3d.data.synthetic.kitti_scene import write_scene
from mono3d.data.synthetic.lidar import Sweep, scan
from mono3d.data.synthetic.render import Picture, render_cameras
from mono3d.data.synthetic.shading import SAMPLES
from mono3d.data.synthetic.world import Snapshot, World
from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.structures import Frame
from tests.data.synthetic.conftest import KITTI_SIZE

FIRST = 10
NAMES = ("000010", "000011")
TYPES = ("Car", "Van", "Truck", "Pedestrian", "Cyclist", "Misc")


class Scene(NamedTuple):
    folder: Path
    counts: Counter[str]
    calibration: Calibration
    snapshots: list[Snapshot]
    pictures: list[Picture]
    sweeps: list[Sweep]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, kitti_world: World) -> Scene:
    folder = tmp_path_factory.mktemp("kitti_scene") / "training"
    for name in ("image_2", "calib", "velodyne", "label_2"):
        (folder / name).mkdir(parents=True)
    counts = write_scene(
        folder, FIRST, kitti_world, KITTI_SIZE, np.random.default_rng(0), has_labels=True
    )
    rng = np.random.default_rng(0)
    calibration = calibrate(kitti_world.rig, rng)
    snapshots = [kitti_world.snapshot(time_s) for time_s in kitti_world.times_s.tolist()]
    return Scene(
        folder=folder,
        counts=counts,
        calibration=calibration,
        snapshots=snapshots,
        pictures=[render_cameras(kitti_world, s, KITTI_SIZE)["image_2"] for s in snapshots],
        sweeps=[scan(kitti_world, s, rng) for s in snapshots],
    )


@pytest.fixture(scope="module")
def frames(scene: Scene) -> list[Frame]:
    dataset = KittiDataset(scene.folder.parent, split="all", class_names=TYPES, with_points=True)
    assert dataset.frame_ids == list(NAMES)
    return [dataset[i] for i in range(len(dataset))]


def _cam_from_world(scene: Scene, world: World, i: int) -> NDArray[np.float64]:
    pose = scene.snapshots[i].world_from_ego @ world.rig.lidar.ego_from_sensor
    result: NDArray[np.float64] = scene.calibration.rectified_from_velo @ np.linalg.inv(pose)
    return result


def _labels(scene: Scene, world: World, i: int) -> tuple[KittiLabels, list[int]]:
    """The labels of a frame, and the number of the object that each of them is of."""
    labels = read_labels(scene.folder / "label_2" / f"{NAMES[i]}.txt")
    cam = _cam_from_world(scene, world, i)
    centers = scene.snapshots[i].centers @ cam[:3, :3].T + cam[:3, 3]
    distances = np.linalg.norm(centers - labels.centers[:, None], axis=-1)
    assert distances.min(axis=1) == pytest.approx(0, abs=0.02)
    return labels, (distances.argmin(axis=1) + 1).tolist()


def test_pictures_are_those_of_the_renderer(scene: Scene, frames: list[Frame]) -> None:
    for frame, picture in zip(frames, scene.pictures, strict=True):
        image = frame.images[0].permute(1, 2, 0).numpy()
        assert np.array_equal(image, cv2.cvtColor(picture.image, cv2.COLOR_BGR2RGB))


def test_labels_have_the_types_and_sizes_of_their_objects(scene: Scene, kitti_world: World) -> None:
    found = Counter[str]()
    for i in range(2):
        labels, numbers = _labels(scene, kitti_world, i)
        assert len(set(numbers)) == len(numbers)
        for name, dims_hwl, number in zip(
            labels.types, labels.dims_hwl.tolist(), numbers, strict=True
        ):
            thing = kitti_world.objects[number - 1]
            assert name == kitti_type(thing)
            assert dims_hwl == pytest.approx(thing.size_lwh[::-1], abs=0.006)
        found.update(labels.types)
    assert {name: count for name, count in scene.counts.items() if name != "DontCare"} == found
    assert len(found) >= 4


def test_rectangles_and_projected_boxes_surround_the_rendered_objects(
    scene: Scene, frames: list[Frame], kitti_world: World
) -> None:
    width, height = KITTI_SIZE
    checked = 0
    for i, frame in enumerate(frames):
        labels, numbers = _labels(scene, kitti_world, i)
        corners = corners_cam(
            *(torch.from_numpy(v).float() for v in (labels.centers, labels.dims_hwl, labels.yaw))
        )
        hulls = hull_2d(corners, frame.projection[0], (height, width))[0].numpy()
        for number, rectangle, hull in zip(numbers, labels.boxes_px, hulls, strict=True):
            rows, columns = np.nonzero(scene.pictures[i].object_ids == number)
            # Centres of samples, in pixels whose first one has its centre at 0.
            points = (np.stack([columns, rows], axis=1) + 0.5) / SAMPLES - 0.5
            assert len(points) > 0
            low, high = points.min(axis=0), points.max(axis=0)
            assert (rectangle[:2] <= low + 0.3).all()
            assert (rectangle[2:] >= high - 0.3).all()
            # A label's box is upright in the camera frame, the object is upright in the world.
            slack = 1.0 + 0.08 * (rectangle[3] - rectangle[1])
            assert (hull[:2] <= low + slack).all()
            assert (hull[2:] >= high - slack).all()
            checked += 1
    assert checked >= 12


def test_unhidden_objects_reach_the_edges_of_their_rectangles(
    scene: Scene, kitti_world: World
) -> None:
    checked = 0
    for i, picture in enumerate(scene.pictures):
        labels, numbers = _labels(scene, kitti_world, i)
        for name, number, rectangle in zip(labels.types, numbers, labels.boxes_px, strict=True):
            is_whole = picture.seen[number] == picture.alone[number]
            if name not in {"Car", "Van", "Truck"} or not is_whole or picture.seen[number] < 200:
                continue
            rows, columns = np.nonzero(picture.object_ids == number)
            seen = np.array([np.ptp(columns), np.ptp(rows)]) / SAMPLES
            assert (seen > 0.7 * (rectangle[2:] - rectangle[:2]) - 1).all(), name
            checked += 1
    assert checked >= 1


def test_points_that_objects_return_lie_in_their_boxes(
    scene: Scene, frames: list[Frame], kitti_world: World
) -> None:
    cars = 0
    for i, frame in enumerate(frames):
        assert frame.points is not None
        assert len(frame.points) == len(scene.sweeps[i].points)
        labels, numbers = _labels(scene, kitti_world, i)
        cam = scene.calibration.rectified_from_velo
        points = frame.points[:, :3].numpy().astype(float) @ cam[:3, :3].T + cam[:3, 3]
        for k, number in enumerate(numbers):
            mine = points[scene.sweeps[i].owners == number] - labels.centers[k]
            cos, sin = np.cos(labels.yaw[k]), np.sin(labels.yaw[k])
            along = mine @ np.array([cos, 0.0, -sin])
            across = mine @ np.array([sin, 0.0, cos])
            local = np.abs(np.stack([mine[:, 1], across, along], axis=1))
            # Two decimals of the heading and the tilt of the camera move the ends of a long box.
            assert (local <= labels.dims_hwl[k] / 2 + 0.03 * labels.dims_hwl[k, 2] + 0.02).all()
            if labels.types[k] == "Car" and labels.occluded[k] == 0 and labels.centers[k, 2] < 40:
                assert len(mine) > 5
                cars += 1
    assert cars >= 2


def test_sweeps_are_a_velodynes(scene: Scene) -> None:
    x, y, z, reflectance = read_velodyne(scene.folder / "velodyne" / f"{NAMES[0]}.bin").T
    assert 60_000 < len(x) < 64 * HDL_64E.num_azimuths
    assert reflectance.min() >= 0
    assert 0.5 < reflectance.max() <= 1
    elevations = np.degrees(np.arctan2(z, np.hypot(x, y)))
    nearest = np.abs(elevations[::50, None] - np.array(HDL_64E.elevations_deg)).min(axis=1)
    assert nearest.max() < 0.01
    # The street ahead is a sensor's height below it.
    street = (x > 5) & (x < 8) & (np.abs(y) < 1)
    assert np.median(z[street]) == pytest.approx(-1.85, abs=0.6)


def test_a_scene_without_labels_has_everything_else(
    tmp_path: Path, kitti_world: World, scene: Scene
) -> None:
    for name in ("image_2", "calib", "velodyne"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    counts = write_scene(tmp_path, FIRST, kitti_world, KITTI_SIZE, rng, has_labels=False)
    assert counts == Counter()
    assert not (tmp_path / "label_2").exists()
    for path in tmp_path.glob("*/*"):
        assert path.read_bytes() == (scene.folder / path.relative_to(tmp_path)).read_bytes()
    assert len(list(tmp_path.glob("*/*"))) == 6
