from dataclasses import replace

import numpy as np
import pytest

from mono3d.data.synthetic.nuscenes_rig import CAMERA_CHANNELS
from mono3d.data.synthetic.render import lit_colors, pinhole, render_cameras, shadow_map
from mono3d.data.synthetic.shading import SAMPLES
from mono3d.data.synthetic.world import World
from tests.data.synthetic.conftest import IMAGE_SIZE


def test_every_camera_sees_its_own_picture(world: World) -> None:
    pictures = render_cameras(world, world.snapshot(0.0), IMAGE_SIZE)
    assert tuple(pictures) == CAMERA_CHANNELS
    width, height = IMAGE_SIZE
    for picture in pictures.values():
        assert picture.image.shape == (height, width, 3)
        assert picture.object_ids.shape == (height * SAMPLES, width * SAMPLES)
        assert picture.image.std() > 10
        counts = np.bincount(picture.object_ids.ravel(), minlength=len(world.objects) + 1)
        assert counts.tolist() == picture.seen.tolist()
        assert (picture.seen[1:] <= picture.alone[1:]).all()
    assert sum((p.seen[1:] > 0).sum() for p in pictures.values()) > len(world.objects) / 2


def test_the_same_moment_is_rendered_the_same(world: World) -> None:
    first, second = (render_cameras(world, world.snapshot(0.0), IMAGE_SIZE) for _ in range(2))
    assert all(np.array_equal(first[c].image, second[c].image) for c in CAMERA_CHANNELS)


def test_night_is_darker_than_day_but_lamps_shine(world: World) -> None:
    night = world.light._replace(direct=(0.05, 0.05, 0.05), ambient=(0.35, 0.35, 0.35))
    day = world.light._replace(direct=(0.6, 0.6, 0.6), ambient=(0.6, 0.6, 0.6))
    mesh = world.snapshot(0.0).mesh
    dark, bright = lit_colors(mesh, night), lit_colors(mesh, day)
    lamps = mesh.glow == 1
    assert dark[~lamps].mean() < 0.6 * bright[~lamps].mean()
    assert dark[lamps] == pytest.approx(np.clip(mesh.colors[lamps], 0, 255))


def test_the_ground_is_dark_below_things_and_light_elsewhere(world: World) -> None:
    snapshot = world.snapshot(0.0)
    shadow = shadow_map(world, snapshot)
    corner = np.array([shadow.corner_x, shadow.corner_y])
    cells = ((snapshot.centers[:, :2] - corner) / shadow.cell_m).astype(int)
    near = ((cells > 2) & (cells < shadow.cells.shape[0] - 2)).all(axis=1)
    large = np.array([min(thing.size_lwh[:2]) > 1.5 for thing in world.objects])
    below = shadow.cells[cells[near & large, 1], cells[near & large, 0]]
    assert len(below) > 3
    assert (below > 0.5).all()
    assert np.median(shadow.cells) == 0


def test_a_camera_projects_the_middle_of_its_view_to_its_principal_point(world: World) -> None:
    sensor, snapshot = world.rig.cameras[0], world.snapshot(0.0)
    camera = pinhole(sensor, snapshot)
    pose = snapshot.world_from_ego
    ahead = sensor.rotation @ np.array([0.0, 0.0, 7.0]) + sensor.translation
    point = camera.rotation @ (pose[:3, :3] @ ahead + pose[:3, 3] - camera.position)
    assert point == pytest.approx([0, 0, 7], abs=1e-9)
    assert camera.cx == pytest.approx(np.asarray(sensor.intrinsic)[0, 2] + 0.5)


def test_an_empty_street_has_no_objects_in_its_pictures(world: World) -> None:
    empty = replace(world, objects=())
    pictures = render_cameras(empty, empty.snapshot(0.0), IMAGE_SIZE)
    assert all(picture.object_ids.max() == 0 for picture in pictures.values())
