"""`mono3d.Detector` on a small network that has learnt nothing."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import mono3d
from mono3d.data.undistort import undistort
from mono3d.errors import ConfigError, DataError
from mono3d.structures import Detections, Frame
from tests.support.kitti_folder import write_kitti
from tests.support.training import save_untrained, tiny_config

CAMERA = np.array([[721.5, 0, 609.5], [0, 721.5, 172.9], [0, 0, 1]])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_kitti(tmp_path_factory.mktemp("data") / "kitti")
    return root / "training" / "image_2" / "000000.png"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(evaluation={"min_score": 0.0, "batch_size": 4})
    return save_untrained(config, tmp_path_factory.mktemp("runs") / "step_00000000")


@pytest.fixture(scope="module")
def detector(checkpoint: Path) -> mono3d.Detector:
    return mono3d.Detector.load(checkpoint)


def test_the_checkpoint_s_evaluation_says_what_is_worth_showing(
    detector: mono3d.Detector, tmp_path: Path
) -> None:
    assert detector.shown_scores.tolist() == pytest.approx([0.2, 0.2])
    metrics = {"val/nuscenes_car_threshold": 0.35}
    measured = save_untrained(detector.config, tmp_path / "step_00000001", metrics=metrics)
    found = mono3d.Detector.load(measured).shown_scores
    assert found.tolist() == pytest.approx([0.35, 0.2])


def test_of_merged_data_the_one_set_that_is_measured_says_it(tmp_path: Path) -> None:
    folder = {"kind": "nuscenes", "root": "x"}
    sets = {"far": {**folder, "val_split": None}, "near": {**folder, "train_split": None}}
    data = {"kind": "merged", "class_names": ["car", "pedestrian"], "sets": sets}
    config = tiny_config(data=data, checkpoint__metric="val/near/nuscenes_map")
    metrics = {"val/near/nuscenes_car_threshold": 0.35}
    checkpoint = save_untrained(config, tmp_path / "step_00000001", metrics=metrics)
    found = mono3d.Detector.load(checkpoint).shown_scores
    assert found.tolist() == pytest.approx([0.35, 0.2])


def test_files_and_pixels_are_seen_alike(detector: mono3d.Detector, image: Path) -> None:
    assert detector.class_names == ("car", "pedestrian")
    found = detector.predict(image, CAMERA)
    assert isinstance(found, Detections)
    assert 0 < len(found) <= 100
    assert (found.scores.diff() <= 0).all()
    pixels = detector.frame(image, CAMERA).images[0].permute(1, 2, 0).numpy()
    again = detector.predict(np.ascontiguousarray(pixels), torch.from_numpy(CAMERA))
    torch.testing.assert_close(again.boxes.centers, found.boxes.centers)
    mirrored = detector.predict(image, CAMERA, flip=True)
    assert not torch.equal(mirrored.scores[:5], found.scores[:5])
    assert len(detector.predict(image, CAMERA, min_score=0.99)) == 0


def test_twice_the_focal_length_is_twice_as_far(detector: mono3d.Detector, image: Path) -> None:
    tele = CAMERA * np.array([[2], [2], [1]]) - np.array([[0, 0, 609.5], [0, 0, 172.9], [0, 0, 0]])
    near, far = (
        detector.predict(image, camera, min_score=0.0).boxes.centers[:, 2].median()
        for camera in (CAMERA, tele)
    )
    assert far / near == pytest.approx(2.0, rel=0.15)


def test_distortion_is_taken_out_first(detector: mono3d.Detector, image: Path) -> None:
    lens = mono3d.Distortion((-0.3, 0.1, 0.001, 0.0))
    pixels = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
    straight = undistort(pixels, np.pad(CAMERA, ((0, 0), (0, 1))), lens)
    assert not np.array_equal(straight, pixels)
    frame = detector.frame(image, CAMERA, distortion=lens)
    np.testing.assert_array_equal(frame.images[0].permute(1, 2, 0).numpy(), straight)
    np.testing.assert_allclose(frame.projection[0, :, :3].numpy(), CAMERA, rtol=1e-6)
    found = detector.predict(image, CAMERA, distortion=lens)
    torch.testing.assert_close(found.scores, detector.predict(straight, CAMERA).scores)


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        (np.eye(2), "must be a finite 3x3 or 3x4 matrix"),
        (np.full((3, 3), np.nan), "must be a finite 3x3 or 3x4 matrix"),
        (np.diag([-700.0, 700.0, 1.0]), "focal lengths must be above 0"),
    ],
)
def test_a_camera_that_is_none_is_refused(
    detector: mono3d.Detector, camera: np.ndarray, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        detector.predict(np.zeros((100, 300, 3), np.uint8), camera)


@pytest.mark.parametrize("shape", [(100, 300), (100, 300, 1), (100, 300, 4)])
def test_an_image_without_three_channels_is_refused(
    detector: mono3d.Detector, shape: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match="an image is uint8"):
        detector.predict(np.zeros(shape, np.uint8), CAMERA)


def test_a_detector_of_the_ground_asks_for_the_cameras_pose(tmp_path: Path) -> None:
    config = tiny_config(model__ground={"height_m": 0.0})
    detector = mono3d.Detector.load(save_untrained(config, tmp_path / "ground"))
    with pytest.raises(ConfigError, match=r"was trained with model\.ground"):
        detector.predict(np.zeros((100, 300, 3), np.uint8), CAMERA)


@pytest.mark.parametrize(("ground_m", "camera_m"), [(0.0, 1.65), (-1.73, -0.08)])
def test_a_level_camera_stands_on_the_ground_of_training(
    ground_m: float, camera_m: float, tmp_path: Path
) -> None:
    """KITTI's bev frame begins in the Velodyne: a camera 1.65 m up is 8 cm below that."""
    config = tiny_config(model__ground={"height_m": ground_m})
    detector = mono3d.Detector.load(save_untrained(config, tmp_path / "checkpoint"))
    assert detector.level_pose(1.65)[2, 3].item() == pytest.approx(camera_m)


def test_many_frames_are_seen_a_batch_at_a_time(detector: mono3d.Detector, image: Path) -> None:
    read = 0

    def frames() -> Iterator[Frame]:
        nonlocal read
        for number in range(10):
            read += 1
            yield detector.frame(image, CAMERA, name=f"{number}")

    names = []
    for frame, found in detector.detect_all(frames()):
        names.append(frame.frame_id)
        assert read <= len(names) + 3
        assert 0 < len(found) <= 100
    assert names == [f"{number}" for number in range(10)]
    assert not list(detector.detect_all([]))


def test_what_came_before_a_failure_is_answered(detector: mono3d.Detector, image: Path) -> None:
    def frames() -> Iterator[Frame]:
        for number in range(6):
            yield detector.frame(image, CAMERA, name=f"{number}")
        raise DataError("broken")

    names = []
    with pytest.raises(DataError, match="broken"):
        names.extend(frame.frame_id for frame, _ in detector.detect_all(frames()))
    assert names == [f"{number}" for number in range(6)]


def test_a_fingerprint_tells_weights_and_settings_apart(
    detector: mono3d.Detector, checkpoint: Path, tmp_path: Path
) -> None:
    assert mono3d.Detector.load(checkpoint).fingerprint == detector.fingerprint
    other = mono3d.Detector.load(checkpoint, overrides=["evaluation.top_k=7"])
    assert other.config.evaluation.top_k == 7
    config = tiny_config(evaluation={"min_score": 0.0, "batch_size": 4}, seed=1)
    seeded = save_untrained(config, tmp_path / "seed")
    changed = mono3d.Detector.load(seeded, overrides=["seed=0"])
    assert changed.config == detector.config
    assert len({detector.fingerprint, other.fingerprint, changed.fingerprint}) == 3
