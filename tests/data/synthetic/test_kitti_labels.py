"""Labels of staged scenes, where one knows what an annotator would say."""

import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mono3d.data.kitti_format import read_calibration, read_labels
from mono3d.data.synthetic.kitti_calibration import calibrate
from mono3d.data.synthetic.kitti_labels import area, image_rectangles, kitti_type, label_lines
from mono3d.data.synthetic.layout import WorldObject
from mono3d.data.synthetic.render import Picture, render_cameras
from mono3d.data.synthetic.shading import SAMPLES
from mono3d.data.synthetic.world import World
from mono3d.geometry.boxes import corners_cam
from tests.data.synthetic.conftest import KITTI_SIZE
from tests.data.synthetic.stage import SIDE_M, staged, thing

WIDTH, HEIGHT = KITTI_SIZE


def _labelled(world: World, *things: WorldObject) -> tuple[list[list[str]], Picture]:
    """Words of each line, and the picture."""
    scene = staged(world, *things)
    snapshot = scene.snapshot(0.0)
    picture = render_cameras(scene, snapshot, KITTI_SIZE)["image_2"]
    calibration = calibrate(scene.rig, np.random.default_rng(0))
    lines = label_lines(
        scene,
        snapshot,
        picture,
        projection=calibration.projection,
        cam_from_ego=calibration.rectified_from_velo
        @ np.linalg.inv(scene.rig.lidar.ego_from_sensor),
    )
    return [line.split() for line in lines], picture


def _numbers(words: list[str]) -> list[float]:
    return [float(word) for word in words[1:]]


def _seen_rectangle(picture: Picture, number: int) -> list[float]:
    """Around the samples of an object, in pixels whose first one has its centre at 0."""
    left, top, width, height = cv2.boundingRect((picture.object_ids == number).astype(np.uint8))
    edges = np.array([left, top, left + width, top + height]) / SAMPLES - 0.5
    rectangle: list[float] = np.clip(edges, 0, [WIDTH - 1, HEIGHT - 1] * 2).tolist()
    return rectangle


def test_a_car_ahead_is_fully_visible_and_seen_from_behind(kitti_world: World) -> None:
    car = thing("car", 18.0)
    (words,), picture = _labelled(kitti_world, car)
    truncated, occluded, alpha, *rectangle = _numbers(words)[:7]
    height, width, length, x, y, z, yaw = _numbers(words)[7:]
    assert words[0] == "Car"
    assert (truncated, occluded) == (0, 0)
    assert (height, width, length) == (1.73, 1.95, 4.62)
    # The ego car's middle is a metre behind its own reference, the camera a metre before it.
    assert z == pytest.approx(18.0, abs=0.5)
    assert abs(x) < 1.5
    assert y == pytest.approx(kitti_world.rig.cameras[0].translation[2], abs=1.3)
    assert yaw == pytest.approx(-np.pi / 2, abs=0.12)
    assert alpha == pytest.approx(yaw - np.arctan2(x, z), abs=0.011)
    # A car leaves some of its box empty, below its sill most of all.
    left, top, right, bottom = np.array(rectangle) - _seen_rectangle(picture, 1)
    assert -2.5 < left < 0.1
    assert -2.5 < top < 0.1
    assert -0.1 < right < 2.5
    assert -0.1 < bottom < 2.5


def test_what_looks_to_the_camera_and_what_crosses_has_its_heading(kitti_world: World) -> None:
    things = [
        thing("car", 20.0, side=SIDE_M + 4, heading=np.pi),
        thing("pedestrian", 12.0, side=SIDE_M - 4, heading=-np.pi / 2),
    ]
    words, _ = _labelled(kitti_world, *things)
    assert [line[0] for line in words] == ["Car", "Pedestrian"]
    assert _numbers(words[0])[-1] == pytest.approx(np.pi / 2, abs=0.12)
    # It walks to the right.
    assert _numbers(words[1])[-1] == pytest.approx(0.0, abs=0.12)


def test_occlusion_has_the_levels_of_what_is_seen(kitti_world: World) -> None:
    levels = {}
    for side in np.linspace(0.0, 7.0, 29).tolist():
        words, picture = _labelled(
            kitti_world, thing("car", 30.0, side=SIDE_M + side), thing("truck", 15.0)
        )
        share = float(picture.seen[1] / picture.alone[1])
        level = next((line[2] for line in words if line[0] == "Car"), None)
        levels[share] = level
        expected = "0" if share >= 0.8 else "1" if share >= 0.4 else "2" if share >= 0.1 else None
        assert level == expected, share
    assert set(levels.values()) >= {"0", "1", "2", None}


def test_what_leaves_the_image_is_truncated_by_its_share(kitti_world: World) -> None:
    """Compared with projecting very many points of the box's surface."""
    seen = 0
    for side in (2.5, 3.0, 3.5, 4.0):
        car = thing("car", 6.0, side=SIDE_M + side)
        (words,), _ = _labelled(kitti_world, car)
        truncated, occluded, _, *rectangle = _numbers(words)[:7]
        pixels = _surface_pixels(kitti_world, car)
        whole = np.ptp(pixels, axis=0).prod()
        is_inside = ((pixels >= 0) & (pixels <= (WIDTH - 1, HEIGHT - 1))).all(axis=1)
        inside = pixels[is_inside]
        expected = [*inside.min(axis=0).tolist(), *inside.max(axis=0).tolist()]
        assert rectangle == pytest.approx(expected, abs=0.6)
        assert truncated == pytest.approx(1 - np.ptp(inside, axis=0).prod() / whole, abs=0.03)
        assert occluded == (3 if truncated > 0.8 else 0)
        seen += 0.1 < truncated < 0.9
    assert seen >= 2


def _surface_pixels(world: World, car: WorldObject) -> np.ndarray:  # type: ignore[type-arg]
    scene = staged(world, car)
    snapshot = scene.snapshot(0.0)
    steps = np.linspace(-0.5, 0.5, 201)
    flat = np.stack(np.meshgrid(steps, steps, (-0.5, 0.5)), axis=-1).reshape(-1, 3)
    unit = np.concatenate([np.roll(flat, shift, axis=1) for shift in range(3)])
    local = unit * car.size_lwh
    cos, sin = np.cos(snapshot.yaws[0]), np.sin(snapshot.yaws[0])
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    points = local @ turn.T + snapshot.centers[0]
    sensor = scene.rig.cameras[0]
    cam = np.linalg.inv(snapshot.world_from_ego @ sensor.ego_from_sensor)
    x, y, z = (points @ cam[:3, :3].T + cam[:3, 3]).T
    intrinsic = np.asarray(sensor.intrinsic)
    focal_px, (cx, cy) = intrinsic[0, 0], intrinsic[:2, 2]
    assert z.min() > 0.1
    pixels: np.ndarray = np.stack(  # type: ignore[type-arg]
        [focal_px * x / z + cx, focal_px * y / z + cy], axis=1
    )
    return pixels


def _assert_fence(words: list[str], picture: Picture, number: int) -> None:
    values = _numbers(words)
    assert words[0] == "DontCare"
    assert values[:3] == [-1, -1, -10]
    assert values[3:7] == pytest.approx(_seen_rectangle(picture, number), abs=0.006)
    assert values[7:] == [-1, -1, -1, -1000, -1000, -1000, -10]


def test_a_sliver_of_a_car_is_fenced_in(kitti_world: World) -> None:
    slivers = 0
    for side in np.linspace(1.0, 3.0, 21).tolist():
        words, picture = _labelled(
            kitti_world, thing("car", 26.0, side=SIDE_M + side), thing("truck", 12.0)
        )
        if 4 * SAMPLES**2 <= picture.seen[1] < 0.1 * picture.alone[1]:
            assert [line[0] for line in words] == ["Truck", "DontCare"]
            _assert_fence(words[1], picture, 1)
            slivers += 1
    assert slivers > 0


def test_a_car_out_of_the_lidars_reach_is_fenced_in(kitti_world: World) -> None:
    (words,), picture = _labelled(kitti_world, thing("car", 84.0))
    _assert_fence(words, picture, 1)


def test_what_is_not_seen_or_not_kittis_has_no_line(kitti_world: World) -> None:
    behind_it_all = thing("pedestrian", 20.0)
    words, picture = _labelled(kitti_world, behind_it_all, thing("bus", 12.0))
    assert picture.seen[1] == 0
    assert [line[0] for line in words] == ["Misc"]
    assert _labelled(kitti_world, thing("car", -12.0))[0] == []
    assert _labelled(kitti_world, thing("traffic_cone", 9.0), thing("barrier", 14.0))[0] == []
    assert _labelled(kitti_world)[0] == []


def test_types_are_kittis() -> None:
    car, cycle = thing("car", 0.0), thing("bicycle", 0.0)
    tall = replace(car, size_lwh=(5.0, 2.0, 2.0))
    assert (kitti_type(car), kitti_type(tall)) == ("Car", "Van")
    assert kitti_type(thing("truck", 0.0)) == "Truck"
    assert kitti_type(thing("pedestrian", 0.0)) == "Pedestrian"
    assert kitti_type(replace(cycle, attribute="cycle.with_rider")) == "Cyclist"
    assert kitti_type(replace(cycle, attribute="cycle.without_rider")) == "Misc"
    assert {kitti_type(thing(name, 0.0)) for name in ("bus", "trailer")} == {"Misc"}
    assert kitti_type(thing("construction_vehicle", 0.0)) == "Misc"
    assert kitti_type(thing("barrier", 0.0)) is None
    assert kitti_type(thing("traffic_cone", 0.0)) is None


@pytest.mark.slow
@pytest.mark.real_data
def test_real_labels_have_rectangles_and_truncation_of_this_kind(
    real_data: Path, tmp_path: Path
) -> None:
    for name in ("label_2_even", "calib_even"):
        with tarfile.open(real_data / "kitti" / "full_labels" / f"{name}.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
    overlaps, errors = [], []
    for path in sorted((tmp_path / "label_2").iterdir())[:1000]:
        labels = read_labels(path)
        projection = torch.from_numpy(read_calibration(tmp_path / "calib" / path.name).projection)
        corners = corners_cam(
            *(torch.from_numpy(v) for v in (labels.centers, labels.dims_hwl, labels.yaw))
        )
        whole, inside = image_rectangles(corners, projection, (375, 1242))
        rigid = np.isin(labels.types, ["Car", "Van", "Truck", "Cyclist"])
        rigid &= np.isfinite(inside).all(axis=1)
        found, said = inside[rigid], labels.boxes_px[rigid]
        common = np.concatenate(
            [np.maximum(found, said)[:, :2], np.minimum(found, said)[:, 2:]], axis=1
        )
        overlaps += (area(common) / (area(found) + area(said) - area(common))).tolist()
        truncated = labels.truncated[rigid]
        errors += np.abs(1 - area(found) / area(whole[rigid]) - truncated)[truncated > 0].tolist()
    assert len(overlaps) > 4000
    assert np.median(overlaps) > 0.97
    assert np.quantile(overlaps, 0.05) > 0.94
    assert len(errors) > 500
    assert np.mean(errors) < 0.02
