"""After any change of a frame, boxes still project on to what the image shows of them."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from mono3d.data.augment import (
    Augmentation,
    ColourJitter,
    Window,
    fit_to_size,
    flip,
    jitter_colour,
)
from mono3d.geometry.boxes import yaw_bev_from_cam
from mono3d.geometry.camera import project, transform_points
from mono3d.structures import Boxes3D, Frame
from tests.support.boxes import make_boxes
from tests.support.frames import surround_frame

P2 = torch.tensor([[120.0, 0, 90, 45.0], [0, 125.0, 60, -0.2], [0, 0, 1, 0.003]])


def painted_frame(center: list[float], *, image_size: tuple[int, int] = (128, 192)) -> Frame:
    """One object whose projected centre is the middle of a bright spot on black."""
    boxes = make_boxes([center])
    u, v = project(boxes.centers, P2)[0].tolist()
    rows, columns = torch.meshgrid(*map(torch.arange, image_size), indexing="ij")
    spot = 255 * torch.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 4.0**2))
    return Frame(
        frame_id="painted",
        camera_names=("CAM_FRONT",),
        images=spot.round().byte().expand(1, 3, *image_size).clone(),
        projection=P2[None],
        bev_from_cam=torch.eye(4)[None],
        boxes_cam=(boxes,),
        boxes_bev=boxes,
    )


def spot_px(image: Tensor) -> Tensor:
    """(u, v) of the middle of what is bright."""
    weight = image[0].float()
    rows, columns = torch.meshgrid(*map(torch.arange, weight.shape), indexing="ij")
    return torch.stack([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def change_by(name: str, frame: Frame) -> Frame:
    changes = {
        "flip": flip,
        "half": lambda f: fit_to_size(f, (64, 96)),
        "crop": lambda f: fit_to_size(f, (100, 192)),
        "half and crop": lambda f: fit_to_size(f, (40, 96)),
        "odd size": lambda f: fit_to_size(f, (77, 131)),
        "larger and padded": lambda f: fit_to_size(f, (300, 230)),
        "crop and flip": lambda f: flip(fit_to_size(f, (50, 96))),
        "flip and crop": lambda f: fit_to_size(flip(f), (50, 96)),
        "zoom": lambda f: fit_to_size(f, (100, 144), Window(zoom=1.3, place=0.4)),
    }
    return changes[name](frame)


@pytest.mark.parametrize(
    "change",
    [
        "flip", "half", "crop", "half and crop", "odd size", "larger and padded", "crop and flip",
        "flip and crop", "zoom",
    ],
)  # fmt: skip
@pytest.mark.parametrize("center", [[0.5, 1.0, 10.0], [-3.0, 2.0, 14.0], [6.0, 1.5, 12.0]])
def test_boxes_project_on_to_the_same_content(change: str, center: list[float]) -> None:
    changed = change_by(change, painted_frame(center))
    assert changed.boxes_cam is not None
    (projected,) = project(changed.boxes_cam[0].centers, changed.projection[0])
    assert torch.dist(projected, spot_px(changed.images[0])) < 0.2
    if "flip" in change:
        assert changed.projection[0, 0, 0] > 0
        assert changed.boxes_cam[0].centers[0, 0] == -center[0]


def test_a_resize_and_crop_by_hand() -> None:
    """Half the size and 14 rows less above: 0.5 cx - 0.25 and 0.5 cy - 0.25 - 14."""
    frame = fit_to_size(painted_frame([0.0, 0.0, 10.0]), (50, 96))
    assert frame.images.shape == (1, 3, 50, 96)
    torch.testing.assert_close(
        frame.projection[0, :, :3],
        torch.tensor([[60.0, 0, 44.75], [0, 62.5, 15.75], [0, 0, 1]]),
    )


def test_the_lowest_rows_are_kept_and_missing_ones_are_black_below() -> None:
    frame = painted_frame([0.0, 0.0, 10.0])
    rows = torch.arange(128, dtype=torch.uint8)[None, None, :, None].expand(1, 3, 128, 192)
    frame = replace(frame, images=rows.contiguous())
    assert fit_to_size(frame, (100, 192)).images[0, 0, :, 0].tolist() == list(range(28, 128))
    low = fit_to_size(frame, (130, 192)).images[0, 0, :, 0].tolist()
    assert low == [*range(128), 0, 0]


def test_a_frame_of_the_right_size_is_left_alone() -> None:
    frame = painted_frame([0.0, 0.0, 10.0])
    assert fit_to_size(frame, (128, 192)) is frame


def test_boxes_cut_away_with_the_upper_rows_leave_their_camera() -> None:
    boxes = make_boxes([[0.0, 1.0, 10.0], [0.0, -4.0, 10.0]])
    frame = replace(painted_frame([0.0, 0.0, 10.0]), boxes_cam=(boxes,), boxes_bev=boxes)
    cropped = fit_to_size(frame, (70, 192))
    assert cropped.boxes_cam is not None
    assert cropped.boxes_cam[0].object_ids.tolist() == [0]
    assert cropped.boxes_bev is boxes


def test_boxes_beside_the_window_leave_their_camera() -> None:
    boxes = make_boxes([[0.0, 1.0, 10.0], [6.5, 1.0, 10.0]])
    frame = replace(painted_frame([0.0, 0.0, 10.0]), boxes_cam=(boxes,), boxes_bev=boxes)
    left, right = (fit_to_size(frame, (100, 128), Window(zoom=1.5, place=p)) for p in (0.0, 1.0))
    for changed, seen in ((left, [0]), (right, [0, 1])):
        assert changed.images.shape == (1, 3, 100, 128)
        assert changed.boxes_cam is not None
        assert changed.boxes_cam[0].object_ids.tolist() == seen


def test_windows_are_drawn_between_the_whole_and_the_largest_zoom() -> None:
    generator = torch.Generator().manual_seed(0)
    augmentation = Augmentation(max_zoom=1.5)
    drawn = [augmentation.window(generator) for _ in range(200)]
    zooms, places = ([getattr(window, name) for window in drawn] for name in ("zoom", "place"))
    assert 1 <= min(zooms) < 1.02
    assert 1.47 < max(zooms) <= 1.5
    assert 0 <= min(places) < 0.03
    assert 0.97 < max(places) <= 1
    before = generator.get_state()
    assert Augmentation().window(generator) == Window()
    assert torch.equal(generator.get_state(), before)


def assert_same_boxes(left: Boxes3D, right: Boxes3D) -> None:
    for field in fields(left):
        one, other = getattr(left, field.name), getattr(right, field.name)
        torch.testing.assert_close(one, other, equal_nan=True, msg=field.name)


def test_flipping_twice_is_the_identity() -> None:
    frame = surround_frame(3)
    twice = flip(flip(frame))
    assert torch.equal(twice.images, frame.images)
    torch.testing.assert_close(twice.projection, frame.projection)
    torch.testing.assert_close(twice.bev_from_cam, frame.bev_from_cam)
    assert twice.boxes_cam is not None
    assert frame.boxes_cam is not None
    for one, other in zip(twice.boxes_cam, frame.boxes_cam, strict=True):
        assert_same_boxes(one, other)
    assert twice.boxes_bev is not None
    assert frame.boxes_bev is not None
    assert_same_boxes(twice.boxes_bev, frame.boxes_bev)
    assert twice.points is not None
    assert frame.points is not None
    assert torch.equal(twice.points, frame.points)


@pytest.mark.parametrize("is_flipped", [False, True])
def test_both_coordinate_frames_tell_the_same_story(is_flipped: bool) -> None:
    """Centres, headings and velocities agree through bev_from_cam, mirrored or not."""
    for seed in range(3):
        frame = flip(surround_frame(seed)) if is_flipped else surround_frame(seed)
        assert frame.boxes_cam is not None
        assert frame.boxes_bev is not None
        assert torch.linalg.det(frame.bev_from_cam[:, :3, :3]) == pytest.approx(torch.ones(6))
        for boxes, pose in zip(frame.boxes_cam, frame.bev_from_cam, strict=True):
            bev = frame.boxes_bev.select(boxes.object_ids)
            torch.testing.assert_close(
                transform_points(boxes.centers, pose), bev.centers, rtol=1e-4, atol=1e-4
            )
            turned = yaw_bev_from_cam(boxes.yaw, pose) - bev.yaw
            assert (turned.cos() > 1 - 1e-4).all()
            x, z = boxes.velocity.unbind(-1)
            speed = torch.stack([x, torch.zeros_like(x), z], dim=-1) @ pose[:3, :3].T
            torch.testing.assert_close(speed[:, :2], bev.velocity, rtol=0, atol=0.02)


def test_the_mirrored_heading_by_hand() -> None:
    """A car that drives to the right drives to the left; one that drives away still does."""
    boxes = replace(
        make_boxes([[1.0, 0, 10.0], [1.0, 0, 10.0]]),
        yaw=torch.tensor([0.0, -math.pi / 2]),
        velocity=torch.tensor([[3.0, 0.5], [0.0, math.nan]]),
    )
    frame = replace(painted_frame([0.0, 0.0, 10.0]), boxes_cam=(boxes,), boxes_bev=boxes)
    mirrored = flip(frame).boxes_cam
    assert mirrored is not None
    assert mirrored[0].yaw.cos().tolist() == pytest.approx([-1, 0], abs=1e-6)
    assert mirrored[0].yaw.sin().tolist() == pytest.approx([0, -1], abs=1e-6)
    assert mirrored[0].velocity[0].tolist() == [-3.0, 0.5]
    assert mirrored[0].velocity[1, 1].isnan()


def test_unlabelled_frames_without_points_can_be_changed() -> None:
    frame = replace(painted_frame([0.0, 0.0, 10.0]), boxes_cam=None, boxes_bev=None)
    changed = flip(fit_to_size(frame, (50, 96)))
    assert changed.boxes_cam is None
    assert changed.points is None


def test_colour_changes_are_bounded_and_alike_for_all_cameras() -> None:
    frame = surround_frame(0)
    frame = replace(frame, images=frame.images[:1].expand_as(frame.images).contiguous())
    jitter = ColourJitter(brightness=0.1, contrast=0.2)
    changed = jitter_colour(frame, jitter, torch.Generator().manual_seed(1)).images
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, frame.images)
    assert (changed == changed[:1]).all()
    difference = (changed.float() - frame.images.float()).abs().max()
    assert difference <= 0.1 * 255 + 0.2 * 128 + 1


def test_all_randomness_comes_from_the_generator() -> None:
    frame = surround_frame(0)
    change = Augmentation(flip_probability=0.5, colour=ColourJitter())
    seeds = range(8)
    one = [change(frame, torch.Generator().manual_seed(seed)) for seed in seeds]
    torch.manual_seed(99)
    two = [change(frame, torch.Generator().manual_seed(seed)) for seed in seeds]
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True))
    flipped = {bool((f.bev_from_cam != frame.bev_from_cam).any()) for f in one}
    assert flipped == {False, True}
