"""Boxes drawn on the pixels of a video's frames."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mono3d.errors import StorageError
from mono3d.evaluation.annotated_video import AnnotatedVideo, draw_detections
from mono3d.structures import Boxes3D, Detections, Frame
from tests.support.boxes import make_boxes
from tests.support.detections import perfect_detections

PROJECTION = torch.tensor([[500.0, 0, 300, 0], [0, 500, 200, 0], [0, 0, 1, 0]])
SIZE = (400, 600)
GREY = 100


def drawn(found: Detections) -> np.ndarray:
    """Where a grey image is changed by what is drawn."""
    image = np.full((*SIZE, 3), GREY, np.uint8)
    picture = draw_detections(image, found, PROJECTION, ("car",))
    assert (image == GREY).all()
    return np.asarray(picture.astype(int) - GREY)


def test_lines_lie_where_the_box_projects() -> None:
    # 2 m wide, 1.5 m high; its near face 8 m away and its far face, which looks ahead, 12 m.
    change = drawn(perfect_detections(make_boxes([(0, 0, 10)])))
    orange = (change[..., 0] > 60) & (change[..., 2] < -50)
    rows, columns = np.nonzero(orange)
    assert (columns.min(), columns.max()) == pytest.approx((237, 363), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((153, 247), abs=2)
    assert not orange[175:225, 245:253].any()  # between near and far face
    tint = change[200, 300]
    assert 0 < tint[0] < 60
    assert (change[:120] == 0).all()


def test_nothing_behind_the_camera_is_drawn() -> None:
    assert not drawn(perfect_detections(make_boxes([(0, 0, -10)]))).any()
    assert not drawn(perfect_detections(Boxes3D.empty())).any()


def test_a_box_across_the_camera_plane_is_drawn_as_far_as_it_is_in_front() -> None:
    boxes = make_boxes([(2, 0, 0)], dims_hwl=(1.5, 2.0, 8.0))
    _, columns = np.nonzero(np.abs(drawn(perfect_detections(boxes))).sum(-1))
    # The name aside, which begins 0.26 widths before the right edge at most.
    assert columns.min() > 300


def frame(number: int, size: tuple[int, int] = SIZE) -> Frame:
    return Frame(
        frame_id=f"clip_{number:06d}",
        camera_names=("camera",),
        images=torch.full((1, 3, *size), 20 * number, dtype=torch.uint8),
        projection=PROJECTION[None],
        bev_from_cam=torch.eye(4)[None],
        boxes_cam=None,
        boxes_bev=None,
    )


@pytest.mark.parametrize("fails", [False, True])
def test_a_video_has_all_frames_that_were_added_whatever_ends_it(
    tmp_path: Path, fails: bool
) -> None:
    path = tmp_path / "clip.mp4"
    nothing = perfect_detections(Boxes3D.empty())
    try:
        with AnnotatedVideo(path, rate_hz=5.0, class_names=("car",)) as video:
            for number in range(7):
                video.add(frame(number), nothing)
                assert not path.exists()
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == 5.0
    brightness = []
    while capture.grab():
        brightness.append(capture.retrieve()[1].mean())
    assert brightness == pytest.approx([20 * number for number in range(7)], abs=4)


def test_a_video_of_no_frame_is_no_file(tmp_path: Path) -> None:
    with AnnotatedVideo(tmp_path / "clip.mp4", rate_hz=5.0, class_names=("car",)):
        pass
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "no" / "clip.mp4"
    with (
        pytest.raises(StorageError, match=r"cannot write .*clip\.mp4 as video of 600x400 pixels"),
        AnnotatedVideo(path, rate_hz=5.0, class_names=("car",)) as video,
    ):
        video.add(frame(1), perfect_detections(Boxes3D.empty()))
