"""What nuscenes-devkit makes of a written scene, against the world that it was written from."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import Box, LidarPointCloud
from nuscenes.utils.geometry_utils import BoxVisibility, points_in_box, view_points

from mono3d.data.synthetic.nuscenes_rig import CAMERA_CHANNELS
from mono3d.data.synthetic.nuscenes_scene import SceneName, write_scene
from mono3d.data.synthetic.nuscenes_tables import common_tables
from mono3d.data.synthetic.render import Picture, render_cameras
from mono3d.data.synthetic.shading import SAMPLES
from mono3d.data.synthetic.world import World
from tests.data.synthetic.conftest import IMAGE_SIZE

MIDDLE = 1


@pytest.fixture(scope="module")
def nusc(tmp_path_factory: pytest.TempPathFactory, world: World) -> NuScenes:
    root = tmp_path_factory.mktemp("scene")
    for folder in ("maps", "v1.0-one", *(f"samples/{c}" for c in (*CAMERA_CHANNELS, "LIDAR_TOP"))):
        (root / folder).mkdir(parents=True)
    name = SceneName(name="one", index=0, version="v1.0-one")
    rows = write_scene(root, name, world, IMAGE_SIZE, np.random.default_rng(0))
    for table, common in common_tables().items():
        (root / "v1.0-one" / f"{table}.json").write_text(json.dumps(common + rows[table]))
    return NuScenes("v1.0-one", str(root), verbose=False)


@pytest.fixture(scope="module")
def pictures(world: World) -> dict[str, Picture]:
    return render_cameras(world, world.snapshot(float(world.times_s[MIDDLE])), IMAGE_SIZE)


def _numbers(nusc: NuScenes, world: World) -> dict[str, int]:
    """Number of the object that each label of the middle sample is of, by where it stands."""
    sample = nusc.sample[MIDDLE]
    snapshot = world.snapshot(float(world.times_s[MIDDLE]))
    global_from_world = _ego_pose(nusc, sample) @ np.linalg.inv(snapshot.world_from_ego)
    centers = snapshot.centers @ global_from_world[:3, :3].T + global_from_world[:3, 3]
    numbers = {}
    for token in sample["anns"]:
        place = nusc.get("sample_annotation", token)["translation"]
        distances = np.linalg.norm(centers - place, axis=1)
        assert distances.min() < 1e-3
        numbers[token] = int(distances.argmin()) + 1
    return numbers


def _ego_pose(nusc: NuScenes, sample: dict[str, Any]) -> NDArray[np.float64]:
    blob = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    pose = nusc.get("ego_pose", blob["ego_pose_token"])
    turn = Box([0, 0, 0], [1, 1, 1], _quaternion(pose["rotation"])).rotation_matrix
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, pose["translation"]
    return matrix


def _quaternion(values: list[float]) -> Any:
    from pyquaternion import Quaternion

    return Quaternion(values)


def _hull(box: Box, intrinsic: NDArray[np.float64]) -> NDArray[np.float32]:
    corners = view_points(box.corners(), intrinsic, normalize=True)[:2].T
    hull: NDArray[np.float32] = cv2.convexHull(corners.astype(np.float32))
    return hull


def test_projected_boxes_hold_exactly_the_pixels_of_their_objects(
    nusc: NuScenes, world: World, pictures: dict[str, Picture]
) -> None:
    numbers, checked = _numbers(nusc, world), 0
    for channel, picture in pictures.items():
        blob = nusc.sample[MIDDLE]["data"][channel]
        _, boxes, intrinsic = nusc.get_sample_data(blob, box_vis_level=BoxVisibility.ANY)
        for box in boxes:
            rows, columns = np.nonzero(picture.object_ids == numbers[box.token])
            if len(rows) < 30 or box.corners()[2].min() < 0.5:
                continue
            # Centres of samples, in pixels whose first one has its centre at 0.
            points = (np.stack([columns, rows], axis=1) + 0.5) / SAMPLES - 0.5
            hull = _hull(box, intrinsic)
            inside = [cv2.pointPolygonTest(hull, point.tolist(), True) for point in points[::7]]
            assert min(inside) > -0.05, (channel, box.name)
            checked += 1
    assert checked >= 8


_SLENDER = {"vehicle.construction", "vehicle.motorcycle", "vehicle.bicycle"}
"""Shapes that leave the corners of their boxes empty."""


def test_unhidden_objects_reach_the_edges_of_their_projected_boxes(
    nusc: NuScenes, world: World, pictures: dict[str, Picture]
) -> None:
    numbers, checked = _numbers(nusc, world), 0
    for channel, picture in pictures.items():
        blob = nusc.sample[MIDDLE]["data"][channel]
        _, boxes, intrinsic = nusc.get_sample_data(blob, box_vis_level=BoxVisibility.ALL)
        for box in boxes:
            number = numbers[box.token]
            if box.name in _SLENDER or picture.seen[number] < 400:
                continue
            if picture.seen[number] < picture.alone[number]:
                continue
            rows, columns = np.nonzero(picture.object_ids == number)
            seen = np.array([np.ptp(columns), np.ptp(rows)]) / SAMPLES
            expected = np.ptp(_hull(box, intrinsic)[:, 0], axis=0)
            assert (seen > 0.7 * expected - 1).all(), (channel, box.name)
            checked += 1
    assert checked >= 2


def test_lidar_points_of_a_label_lie_in_its_box(nusc: NuScenes) -> None:
    total = 0
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        cloud = LidarPointCloud.from_file(path)
        for box in boxes:
            expected = nusc.get("sample_annotation", box.token)["num_lidar_pts"]
            inside = int(points_in_box(box, cloud.points[:3]).sum())
            # The box may also hold ground that it stands on; nothing of the object is outside.
            assert inside >= expected, box.name
            total += expected
    assert total > 500


def test_velocity_of_the_devkit_is_the_worlds(nusc: NuScenes, world: World) -> None:
    snapshot = world.snapshot(float(world.times_s[MIDDLE]))
    sample, moving = nusc.sample[MIDDLE], 0
    turn = (_ego_pose(nusc, sample) @ np.linalg.inv(snapshot.world_from_ego))[:3, :3]
    for token, number in _numbers(nusc, world).items():
        expected = turn @ snapshot.velocities[number - 1]
        label = nusc.get("sample_annotation", token)
        if label["prev"] and label["next"]:
            assert nusc.box_velocity(token) == pytest.approx(expected, abs=0.02)
            moving += bool(np.linalg.norm(expected) > 1)
    assert moving >= 2


def test_attributes_agree_with_motion(nusc: NuScenes) -> None:
    for row in nusc.sample_annotation:
        names = [nusc.get("attribute", token)["name"] for token in row["attribute_tokens"]]
        speed = np.linalg.norm(nusc.box_velocity(row["token"])[:2])
        if row["category_name"].startswith("movable_object"):
            assert names == []
        else:
            (name,) = names
            if name.endswith(".moving"):
                assert not speed < 0.4
            if name in ("vehicle.parked", "vehicle.stopped", "pedestrian.standing"):
                assert not speed > 0.01


def test_labels_are_near_and_noticed(nusc: NuScenes, tmp_path: Path) -> None:
    for sample in nusc.sample:
        ego = _ego_pose(nusc, sample)[:2, 3]
        for token in sample["anns"]:
            label = nusc.get("sample_annotation", token)
            assert np.linalg.norm(np.array(label["translation"])[:2] - ego) < 60
            assert label["visibility_token"] in {"1", "2", "3", "4"}
