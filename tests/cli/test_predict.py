"""`mono3d predict` and `mono3d.Detector` on a small trained network."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mono3d
from mono3d.cli.main import app
from mono3d.cli.predict import _cameras, _files
from mono3d.config.load import load_recipe
from mono3d.data.kitti_format import result_lines
from mono3d.errors import ConfigError, DataError
from mono3d.storage.location import upload_directory
from mono3d.structures import Detections
from mono3d.training.local import train_locally
from tests.support.boxes import make_boxes
from tests.support.detections import perfect_detections
from tests.support.kitti_folder import CALIBRATION, FRAMES, IMAGE_SIZE, write_kitti

CAMERA = np.array([[721.5, 0, 609.5], [0, 721.5, 172.9], [0, 0, 1]])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("data") / "kitti")


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder."""
    folder = tmp_path_factory.mktemp("runs")
    shrunk = (
        "train.epochs=1", "evaluation.every_epochs=1", "input.image_height_px=64",
        "input.image_width_px=192", "model.backbone.width=8", "model.channels=8",
        "train.batch_size=1", f"cluster.storage={folder}", "evaluation.min_score=0.0",
    )  # fmt: skip
    train_locally(load_recipe("kitti_overfit", [f"data.root={root}", *shrunk]), name="small")
    return folder / "small"


def test_a_detector_sees_an_image_as_evaluation_does(root: Path, run: Path) -> None:
    detector = mono3d.Detector.load(run)
    assert detector.class_names == ("Car", "Pedestrian", "Cyclist")
    path = root / "training" / "image_2" / "000000.png"
    found = detector.predict(path, CAMERA)
    assert isinstance(found, Detections)
    assert 0 < len(found) <= 100
    assert (found.scores.diff() <= 0).all()
    pixels = detector.frame(path, CAMERA).images[0].permute(1, 2, 0).numpy()
    again = detector.predict(np.ascontiguousarray(pixels), torch.from_numpy(CAMERA))
    torch.testing.assert_close(again.boxes.centers, found.boxes.centers)
    mirrored = detector.predict(path, CAMERA, flip=True)
    assert not torch.equal(mirrored.scores[:5], found.scores[:5])
    assert len(detector.predict(path, CAMERA, min_score=0.99)) == 0


def test_twice_the_focal_length_is_twice_as_far(root: Path, run: Path) -> None:
    detector = mono3d.Detector.load(run)
    path = root / "training" / "image_2" / "000000.png"
    tele = CAMERA * np.array([[2], [2], [1]]) - np.array([[0, 0, 609.5], [0, 0, 172.9], [0, 0, 0]])
    near, far = (
        detector.predict(path, camera, min_score=0.0).boxes.centers[:, 2].median()
        for camera in (CAMERA, tele)
    )
    assert far / near == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        (np.eye(2), "must be a finite 3x3 or 3x4 matrix"),
        (np.full((3, 3), np.nan), "must be a finite 3x3 or 3x4 matrix"),
        (np.diag([-700.0, 700.0, 1.0]), "focal lengths must be above 0"),
    ],
)
def test_a_camera_that_is_none_is_refused(run: Path, camera: np.ndarray, said: str) -> None:
    detector = mono3d.Detector.load(run)
    with pytest.raises(DataError, match=said):
        detector.predict(np.zeros((100, 300, 3), np.uint8), camera)
    with pytest.raises(DataError, match="an image is uint8"):
        detector.predict(np.zeros((100, 300), np.uint8), CAMERA)


def test_the_command_writes_boxes_pictures_and_kitti_results(
    root: Path, run: Path, tmp_path: Path
) -> None:
    images = root / "training" / "image_2"
    calibrations = root / "training" / "calib"
    arguments = ["--camera", str(calibrations), "--min-score", "0", "--kitti", "-o", str(tmp_path)]
    result = CliRunner().invoke(app, ["predict", str(run), str(images), *arguments])
    assert result.exit_code == 0, result.output
    answers = json.loads((tmp_path / "predictions.json").read_text())
    assert list(answers) == [str(images / f"{name}.png") for name in FRAMES]
    box = answers[str(images / "000000.png")][0]
    assert set(box) == {"class", "score", "center_xyz_m", "dims_hwl_m", "rotation_y_rad"}
    for name in FRAMES:
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        for line in (tmp_path / "kitti" / f"{name}.txt").read_text().splitlines():
            assert len(line.split()) == 16


@pytest.mark.services
def test_images_and_calibrations_may_lie_in_a_store(
    root: Path,
    run: Path,
    stack_environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    upload_directory(root / "training", "s3://mono3d/predict")
    images, calibrations = "s3://mono3d/predict/image_2", "s3://mono3d/predict/calib"
    files = _files([images])
    assert [str(file) for file in files] == [f"{images}/{name}.png" for name in FRAMES]
    assert [str(file) for file in _files([f"{images}/000001.png"])] == [f"{images}/000001.png"]
    cameras = _cameras(calibrations, files)
    assert [camera[0, 3] for camera in cameras] == [44.86] * 3
    assert np.array_equal(_cameras(f"{calibrations}/000000.txt", files), cameras)
    detector = mono3d.Detector.load(run)
    remote = detector.predict(f"{images}/000000.png", cameras[0])
    local = detector.predict(root / "training" / "image_2" / "000000.png", cameras[0])
    assert torch.equal(remote.boxes.centers, local.boxes.centers)


def test_result_lines_say_what_labels_say() -> None:
    truth = make_boxes([[-6.0, 1.0, 20.0], [3.0, 1.2, 30.0], [0.0, 1.0, -5.0]], labels=[0, 1, 0])
    projection = torch.nn.functional.pad(torch.from_numpy(CAMERA).float(), (0, 1))
    lines = result_lines(perfect_detections(truth), projection, IMAGE_SIZE, ("Car", "Van"))
    assert [line.split()[0] for line in lines] == ["Car", "Van"]  # nothing behind the camera
    values = [float(word) for word in lines[0].split()[1:]]
    assert values[:2] == [-1, -1]
    assert values[7:10] == [1.5, 2.0, 4.0]
    assert values[10:13] == [-6.0, 1.75, 20.0]  # the middle of the bottom
    assert values[14] == 1.0


def test_cameras_are_numbers_files_or_folders(tmp_path: Path) -> None:
    (numbers,) = _cameras("700,701,600,180", [Path("a.png")])
    assert numbers.tolist() == [[700, 0, 600], [0, 701, 180], [0, 0, 1]]
    (tmp_path / "a.txt").write_text(CALIBRATION)
    both = _cameras(str(tmp_path / "a.txt"), [Path("x.png"), Path("y.png")])
    assert [camera[0, 0] for camera in both] == [721.5, 721.5]
    (own,) = _cameras(str(tmp_path), [Path("x/a.png")])
    assert own[0, 3] == 44.86
    with pytest.raises(DataError, match=r"b\.txt: cannot be read"):
        _cameras(str(tmp_path), [Path("b.png")])
    with pytest.raises(ConfigError, match="--camera=700,600: neither FX,FY,CX,CY nor"):
        _cameras("700,600", [Path("a.png")])


def test_images_are_files_or_folders_with_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in _files([str(tmp_path)])] == ["a.png", "b.JPG"]
    with pytest.raises(ConfigError, match="two are named a"):
        _files([str(tmp_path), str(tmp_path / "a.png")])
    with pytest.raises(DataError, match="no such image or folder"):
        _files([str(tmp_path / "z.png")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no PNG or JPEG"):
        _files([str(tmp_path / "empty")])
