"""Images, videos and frames of data sets as inputs."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import mono3d
from mono3d.data.cameras import Camera
from mono3d.data.undistort import Distortion
from mono3d.errors import ConfigError, DataError
from mono3d.structures import Frame
from mono3d.training.prediction_inputs import PredictionInput, open_data_set, open_files
from tests.support.kitti_folder import write_kitti
from tests.support.nuscenes_tables import CLASSES, edit_table, write_tables
from tests.support.training import save_untrained, tiny_config
from tests.support.videos import number_of, write_video

CAMERA = Camera(
    projection=np.array([[80.0, 0, 47.5, 0], [0, 80, 31.5, 0], [0, 0, 1, 0]]),
    image_size=(64, 96),
    source="left.yaml",
)


def camera_of(path: Path) -> Camera:
    return CAMERA


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> mono3d.Detector:
    return mono3d.Detector.load(save_untrained(tiny_config(), tmp_path_factory.mktemp("r") / "a"))


def write_image(path: Path, size: tuple[int, int] = (64, 96)) -> Path:
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))
    return path


def frames(
    inputs: Sequence[PredictionInput], detector: mono3d.Detector, done: Sequence[str] = ()
) -> list[Frame]:
    return [frame for one in inputs for frame in one.frames(detector, done)]


def names(frames: Sequence[Frame]) -> list[str]:
    return [frame.frame_id for frame in frames]


def test_images_come_one_by_one_without_those_that_are_done(
    tmp_path: Path, detector: mono3d.Detector
) -> None:
    for name in ("b.JPG", "a.png", "c.jpeg"):
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    inputs = open_files([tmp_path], camera_of)
    assert [one.num_frames for one in inputs] == [3]
    assert names(frames(inputs, detector)) == ["a", "b", "c"]
    assert names(frames(inputs, detector, ["b"])) == ["a", "c"]


def test_frames_of_videos_come_after_images_under_their_numbers(
    tmp_path: Path, detector: mono3d.Detector
) -> None:
    clip = write_video(tmp_path / "clip.avi", 12)
    image = write_image(tmp_path / "a.png")
    inputs = open_files([clip, image], camera_of, every=5, camera_height_m=1.6)
    assert [one.num_frames for one in inputs] == [1, 3]
    found = frames(inputs, detector, done=["clip_000005"])
    assert names(found) == ["a", "clip_000000", "clip_000010"]
    assert [number_of(f.images[0].permute(1, 2, 0).numpy()) for f in found[1:]] == [0, 10]
    for frame in found:
        np.testing.assert_allclose(frame.projection[0].numpy(), CAMERA.projection)
        assert frame.bev_from_cam[0, :3, 3].tolist() == pytest.approx([0, 0, 1.6])


def test_lenses_are_straightened(tmp_path: Path, detector: mono3d.Detector) -> None:
    lens = Distortion((0.4, 0.1, 0.0, 0.0))
    bent = Camera(projection=CAMERA.projection, distortion=lens)
    paths = [write_image(tmp_path / "a.png"), write_video(tmp_path / "clip.avi", 1)]
    for frame in frames(open_files(paths, lambda path: bent), detector):
        corner, middle = frame.images[0][:, 0, 0], frame.images[0][:, 32, 48]
        assert corner.max() < 20  # a pincushion's picture ends before the corner
        assert middle.max() > 60


def test_an_image_of_another_size_than_its_calibration_is_refused(
    tmp_path: Path, detector: mono3d.Detector
) -> None:
    image = write_image(tmp_path / "a.png", (50, 50))
    clip = write_video(tmp_path / "clip.avi", 1, size=(32, 32))
    for path in (image, clip):
        with pytest.raises(DataError, match=f"{path.name}: .* left.yaml was made for images of"):
            frames(open_files([path], camera_of), detector)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"z\.png: no such image, video or folder"):
        open_files([tmp_path / "z.png"], camera_of)
    with pytest.raises(DataError, match="holds no PNG or JPEG image"):
        open_files([tmp_path], camera_of)
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"clip\.mp4: not a readable video"):
        open_files([tmp_path / "clip.mp4"], camera_of)


@pytest.mark.parametrize(
    "files", [("a.png", "b/a.png"), ("a.png", "a.avi"), ("clip.avi", "clip_000003.png")]
)
def test_results_have_names_of_their_own(tmp_path: Path, files: tuple[str, str]) -> None:
    (tmp_path / "b").mkdir()
    paths = [tmp_path / name for name in files]
    for path in paths:
        write_video(path, 1) if path.suffix == ".avi" else write_image(path)
    with pytest.raises(ConfigError, match=r"inputs: two are named (a|clip_000003), and results"):
        open_files(paths, camera_of)


def kitti_detector(root: Path, folder: Path, split: str, processes: int = 0) -> mono3d.Detector:
    data = {"kind": "kitti", "root": str(root), "class_names": ["Car"], "val_split": split}
    metric = {"metric": "val/centers_depth_abs_rel", "mode": "min"}
    config = tiny_config(data=data, checkpoint=metric, input__loader_processes=processes)
    return mono3d.Detector.load(save_untrained(config, folder))


@pytest.mark.parametrize("processes", [0, 1])
def test_unlabelled_frames_of_kitti(tmp_path: Path, processes: int) -> None:
    root = write_kitti(tmp_path / "kitti")
    shutil.rmtree(root / "training" / "label_2")
    detector = kitti_detector(root, tmp_path / "all", "all", processes)
    inputs = open_data_set(detector)
    found = frames(inputs, detector, done=["000001"])
    assert inputs[0].num_frames == 3
    assert names(found) == ["000000", "000002"]
    assert all(frame.boxes_cam is None for frame in found)
    assert found[0].projection[0, 0, 3].item() == pytest.approx(44.86)
    detector = kitti_detector(root, tmp_path / "test", "test")
    assert names(frames(open_data_set(detector), detector)) == ["000000"]


def test_unlabelled_frames_of_nuscenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_tables(tmp_path / "data", version="v1.0-test")
    for table in ("sample_annotation", "instance"):
        edit_table(root, table, lambda rows: rows.clear(), version="v1.0-test")
    data = {"root": str(root), "version": "v1.0-test", "val_split": "all"}
    config = tiny_config(data=data | {"class_names": list(CLASSES)})
    detector = mono3d.Detector.load(save_untrained(config, tmp_path / "checkpoint"))
    inputs = open_data_set(detector)
    assert inputs[0].num_frames == 24
    first = next(inputs[0].frames(detector, ()))
    assert first.boxes_cam is None
    assert torch.equal(first.projection[0, 2], torch.tensor([0.0, 0, 1, 0]))


@pytest.mark.parametrize("processes", [0, 1])
def test_a_broken_frame_of_a_data_set_is_named(tmp_path: Path, processes: int) -> None:
    root = write_kitti(tmp_path / "kitti")
    image = root / "training" / "image_2" / "000001.png"
    image.write_bytes(image.read_bytes()[:5000])
    detector = kitti_detector(root, tmp_path / "checkpoint", "all", processes)
    found = []
    with pytest.raises(DataError, match=r"000001\.png: image is cut short") as error:
        found.extend(frame.frame_id for frame in open_data_set(detector)[0].frames(detector, ()))
    assert found == ["000000"]
    assert "\n" not in str(error.value)
