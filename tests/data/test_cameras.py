"""Calibration files of KITTI, ROS and OpenCV."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mono3d.data.cameras import Camera, camera_file, checked_projection, read_camera
from mono3d.data.undistort import Distortion
from mono3d.errors import DataError
from tests.support.kitti_folder import CALIBRATION

ROS = """
image_width: 640
image_height: 480
camera_name: left
camera_matrix:
  rows: 3
  cols: 3
  data: [430.2, 0.0, 306.6, 0.0, 430.5, 227.3, 0.0, 0.0, 1.0]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.3375, 0.1116, -0.0004, 0.0018, 0.0]
"""
MATRIX = [[430.2, 0, 306.6, 0], [0, 430.5, 227.3, 0], [0, 0, 1, 0]]
LENS = (-0.3375, 0.1116, -0.0004, 0.0018, 0.0)


def written(tmp_path: Path, text: str, name: str = "camera.yaml") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_camera_info_of_ros(tmp_path: Path) -> None:
    camera = read_camera(written(tmp_path, ROS))
    assert camera.projection.tolist() == MATRIX
    assert camera.distortion == Distortion(LENS)
    assert camera.image_size == (480, 640)


@pytest.mark.parametrize(
    ("model", "coefficients", "lens"),
    [
        ("rational_polynomial", [0.1] * 8, Distortion((0.1,) * 8)),
        ("equidistant", [0.1] * 4, Distortion((0.1,) * 4, fisheye=True)),
        ("fisheye", [0.0] * 4, Distortion((0.0,) * 4, fisheye=True)),
        ("plumb_bob", [0.0] * 5, None),
        ("plumb_bob", [], None),
    ],
)
def test_models_of_ros(
    tmp_path: Path, model: str, coefficients: list[float], lens: Distortion | None
) -> None:
    text = ROS.replace("plumb_bob", model).replace(str(list(LENS)), str(coefficients))
    assert read_camera(written(tmp_path, text)).distortion == lens


@pytest.mark.parametrize("fisheye", [0, 1])
def test_what_opencv_writes(tmp_path: Path, fisheye: int) -> None:
    path = str(tmp_path / "camera.yml")
    storage = cv2.FileStorage(path, cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 640)
    storage.write("image_height", 480)
    storage.write("fisheye_model", fisheye)
    storage.write("camera_matrix", np.array(MATRIX)[:, :3])
    storage.write("distortion_coefficients", np.array(LENS)[:4, None])
    storage.release()
    camera = read_camera(Path(path))
    assert camera.projection.tolist() == MATRIX
    assert camera.distortion == Distortion(LENS[:4], fisheye=bool(fisheye))
    assert camera.image_size == (480, 640)


def test_kittis_file_is_a_projection_without_a_lens(tmp_path: Path) -> None:
    camera = read_camera(written(tmp_path, CALIBRATION, "000001.txt"))
    assert camera.projection[0].tolist() == [721.5, 0, 609.5, 44.86]
    assert camera.distortion is None
    assert camera.image_size is None


def test_the_least_that_is_needed_is_a_matrix(tmp_path: Path) -> None:
    text = "camera_matrix: [[430.2, 0, 306.6], [0, 430.5, 227.3], [0, 0, 1]]"
    camera = read_camera(written(tmp_path, text))
    assert camera.projection.tolist() == MATRIX
    assert (camera.distortion, camera.image_size) == (None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("camera_matrix: [", "not valid YAML"),
        ("just words", "must be a mapping with camera_matrix"),
        ("image_width: 640", "no camera_matrix with a list of numbers"),
        (ROS.replace("430.2", "wide"), "camera_matrix: could not convert"),
        (ROS.replace("430.2, 0.0,", "430.2,"), "camera_matrix has 8 values; it is a 3x3 matrix"),
        (ROS.replace("430.2", "0.0"), "focal lengths must be above 0"),
        (ROS.replace("430.2", ".nan"), "must be a finite 3x3"),
        (ROS.replace("plumb_bob", "thin"), "distortion_model thin is none of plumb_bob, "),
        (ROS.replace("-0.3375, ", "").replace("0.1116, ", ""), "3 distortion coefficients; a lens"),
        (ROS.replace("640", "wide"), "image_width=wide and image_height=480 are no pixels"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"camera\.yaml.*{said}") as raised:
        read_camera(written(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.yaml: cannot be read"):
        read_camera(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"b\.yaml: not valid YAML"):
        read_camera(tmp_path / "b.yaml")
    with pytest.raises(DataError, match=r"c\.txt: no P2"):
        read_camera(written(tmp_path, "P3: 1 2 3\n", "c.txt"))


def test_a_folder_holds_one_file_for_each_image(tmp_path: Path) -> None:
    written(tmp_path, CALIBRATION, "a.txt")
    written(tmp_path, ROS, "b.yml")
    assert camera_file(tmp_path, "a").name == "a.txt"
    assert camera_file(tmp_path, "b").name == "b.yml"
    assert camera_file(tmp_path, "c").name == "c.txt"


def test_a_calibration_is_for_images_of_its_size() -> None:
    camera = Camera(projection=np.array(MATRIX), image_size=(480, 640), source="left.yaml")
    camera.check_size(np.zeros((480, 640, 3), np.uint8), "a.png")
    said = r"^a\.png: 1280x720 pixels, but left\.yaml was made for images of 640x480$"
    with pytest.raises(DataError, match=said):
        camera.check_size(np.zeros((720, 1280, 3), np.uint8), "a.png")


def test_a_camera_matrix_becomes_a_projection() -> None:
    assert checked_projection(np.array(MATRIX)[:, :3], "camera").tolist() == MATRIX
    with pytest.raises(DataError, match=r"^camera \[\[1.0, 0.0\].*must be a finite 3x3 or 3x4"):
        checked_projection(np.eye(2), "camera")
