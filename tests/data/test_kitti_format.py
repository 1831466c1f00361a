"""Label, calibration and sweep files: what they mean, and what is refused."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mono3d.data.kitti_format import (
    read_calibration,
    read_labels,
    read_velodyne,
    result_lines,
    visibility_of,
)
from mono3d.errors import DataError
from tests.support.boxes import make_boxes
from tests.support.detections import perfect_detections
from tests.support.kitti_folder import (
    CALIBRATION,
    CAR,
    DONT_CARE,
    IMAGE_SIZE,
    P2,
    PEDESTRIAN,
    R0,
    TR,
)


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "000007.txt"
    path.write_text(content)
    return path


def test_a_label_becomes_a_box_around_its_middle(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, f"{CAR}\n{DONT_CARE}\n{PEDESTRIAN}\n"))
    assert labels.types == ("Car", "Pedestrian")
    assert labels.dims_hwl[0].tolist() == [1.67, 1.87, 3.69]
    # The file's location is the middle of the bottom; y points down.
    assert labels.centers[0] == pytest.approx([-16.53, 2.39 - 1.67 / 2, 58.49])
    assert labels.yaw[0] == 1.57
    assert labels.boxes_px[0].tolist() == [387.63, 181.54, 423.81, 203.12]
    assert labels.occluded.tolist() == [0, 2]


@pytest.mark.parametrize("content", ["", "\n", f"{DONT_CARE}\n"])
def test_a_frame_may_hold_no_objects(tmp_path: Path, content: str) -> None:
    labels = read_labels(written(tmp_path, content))
    assert len(labels) == 0
    assert labels.centers.shape == (0, 3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (CAR.rsplit(" ", 1)[0], "14 values; a label has 15"),
        (f"{CAR} 0.87", "16 values; a label has 15"),
        (CAR.replace("58.49", "nan"), "nan is not finite"),
        (CAR.replace("58.49", "far"), "'far' is not a number"),
        (CAR.replace("1.67", "0.00"), "sizes above 0"),
        (CAR.replace("1.67", "-1.67"), "sizes above 0"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = written(tmp_path, f"{PEDESTRIAN}\n{line}\n")
    with pytest.raises(DataError, match=f"000007.txt:2: .*{said}"):
        read_labels(path)


def test_files_that_are_no_text_or_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(DataError, match=r"a\.txt: not a text file"):
        read_labels(path)
    with pytest.raises(DataError, match=r"b\.txt: cannot be read"):
        read_labels(tmp_path / "b.txt")


def test_visibility_follows_occlusion() -> None:
    shares = visibility_of(np.array([0, 1, 2, 3, -1]))
    assert shares[:3].tolist() == [1.0, 0.6, 0.2]
    assert np.isnan(shares[3:]).all()


def test_a_calibration_holds_camera_and_velodyne(tmp_path: Path) -> None:
    found = read_calibration(written(tmp_path, CALIBRATION))
    assert found.projection[0].tolist() == [721.5, 0, 609.5, 44.86]
    assert found.cam_from_velo is not None
    # Ten metres ahead of the sensor are ten before the camera, less their distance.
    assert found.cam_from_velo @ [10, 0, 0, 1] == pytest.approx([-0.003, -0.075, 9.728, 1])


def test_a_calibration_may_know_no_velodyne(tmp_path: Path) -> None:
    assert read_calibration(written(tmp_path, f"P2: {P2}\n")).cam_from_velo is None


def test_rectification_comes_after_the_velodynes_pose(tmp_path: Path) -> None:
    turned = "0 -1 0 1 0 0 0 0 1"
    content = f"P2: {P2}\nR_rect: {turned}\nTr_velo_cam: {TR}\n"
    found = read_calibration(written(tmp_path, content))
    assert found.cam_from_velo is not None
    assert found.cam_from_velo @ [10, 0, 0, 1] == pytest.approx([0.075, -0.003, 9.728, 1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CALIBRATION.replace("P2:", "P3:"), "no P2"),
        (CALIBRATION.replace("P2: 721.5 ", "P2: "), "P2 has 11 values; it is a 3x4 matrix"),
        (CALIBRATION.replace("P2: 721.5", "P2: inf"), "P2: inf is not finite"),
        (CALIBRATION.replace("P2: 721.5", "P2: -721.5"), "focal lengths must be above 0"),
        (CALIBRATION.replace(R0, "1 0 0"), "R0_rect has 3 values; it is a 3x3 matrix"),
        ("", "no P2"),
    ],
)
def test_a_broken_calibration_is_named(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError, match=f"000007.txt.*{said}"):
        read_calibration(written(tmp_path, content))


def test_a_sweep_is_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "000007.bin"
    points = np.arange(12, dtype=np.float32).reshape(3, 4)
    points.tofile(path)
    assert np.array_equal(read_velodyne(path), points)
    path.write_bytes(points.tobytes()[:-3])
    with pytest.raises(DataError, match=r"000007\.bin: 45 bytes are no whole number"):
        read_velodyne(path)
    points[1, 2] = np.inf
    points.tofile(path)
    with pytest.raises(DataError, match="not finite"):
        read_velodyne(path)


@pytest.mark.real_data
def test_every_real_label_and_calibration_is_read(real_data: Path, tmp_path: Path) -> None:
    for name in ("label_2_even", "calib_even"):
        archive = real_data / "kitti" / "full_labels" / f"{name}.tar.gz"
        with tarfile.open(archive) as file:
            file.extractall(tmp_path, filter="data")
    labels = [read_labels(path) for path in sorted(tmp_path.rglob("label_2*/*.txt"))]
    assert len(labels) == 3741
    types = [name for frame in labels for name in frame.types]
    assert types.count("Car") == 14481
    dims = np.concatenate([frame.dims_hwl for frame in labels])
    assert dims[np.array(types) == "Car"].mean(axis=0) == pytest.approx(
        [1.53, 1.63, 3.88], abs=0.02
    )
    calibrations = [read_calibration(path) for path in tmp_path.rglob("calib*/*.txt")]
    assert len(calibrations) == 3741
    assert all(found.cam_from_velo is not None for found in calibrations)


def test_result_lines_say_what_labels_say() -> None:
    truth = make_boxes([[-6.0, 1.0, 20.0], [3.0, 1.2, 30.0], [0.0, 1.0, -5.0]], labels=[0, 1, 0])
    projection = torch.tensor([[721.5, 0, 609.5, 0], [0, 721.5, 172.9, 0], [0, 0, 1, 0]])
    lines = result_lines(perfect_detections(truth), projection, IMAGE_SIZE, ("Car", "Van"))
    assert [line.split()[0] for line in lines] == ["Car", "Van"]  # nothing behind the camera
    values = [float(word) for word in lines[0].split()[1:]]
    assert values[:2] == [-1, -1]
    assert values[7:10] == [1.5, 2.0, 4.0]
    assert values[10:13] == [-6.0, 1.75, 20.0]  # the middle of the bottom
    assert values[14] == 1.0
