"""`mono3d predict`: its options, and what it writes from files, videos and data sets."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mono3d.cli.main import app, main
from mono3d.cli.predict import cameras
from mono3d.data.undistort import Distortion
from mono3d.errors import ConfigError, DataError
from tests.support.kitti_folder import CALIBRATION, FRAMES, write_kitti
from tests.support.training import save_untrained, tiny_config
from tests.support.videos import write_video

RUNNER = CliRunner()
ANY = ["--camera", "80,80,47.5,31.5"]
YAML = "camera_matrix: {data: [80, 0, 47.5, 0, 80, 31.5, 0, 0, 1]}\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("data") / "kitti")


@pytest.fixture(scope="module")
def checkpoint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(root, tmp_path_factory.mktemp("runs") / "sure", is_sure=True)


def write_checkpoint(root: Path, folder: Path, *, is_sure: bool) -> Path:
    config = tiny_config(
        data={"kind": "kitti", "root": str(root), "class_names": ["Car", "Pedestrian"]},
        checkpoint={"metric": "val/centers_depth_abs_rel", "mode": "min"},
        evaluation={"top_k": 5, "batch_size": 4},
    )
    return save_untrained(config, folder, is_sure=is_sure)


def predict(*arguments: object) -> str:
    result = RUNNER.invoke(app, ["predict", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_images_with_a_calibration_each(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    images = root / "training" / "image_2"
    calibrations = root / "training" / "calib"
    said = predict(
        checkpoint, images, "--camera", calibrations, "--min-score", 0, "--kitti", "-o", tmp_path
    )
    answers = json.loads((tmp_path / "predictions.json").read_text())
    assert list(answers) == [str(images / f"{name}.png") for name in FRAMES]
    count = sum(map(len, answers.values()))
    assert f"{count} boxes in 3 frames: {tmp_path / 'predictions.json'}" in said
    for name in FRAMES:
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert (tmp_path / "kitti" / f"{name}.txt").exists()


def test_a_video_with_a_lens(checkpoint: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", 10)
    out, lens = tmp_path / "out", ["--distortion", "0.3,0.1,0,0,0.01"]
    predict(checkpoint, clip, *ANY, *lens, "--every", 4, "-o", out)
    names = ["clip_000000", "clip_000004", "clip_000008"]
    bent = json.loads((out / "predictions.json").read_text())
    assert list(bent) == names
    assert (out / "clip.mp4").exists()
    predict(checkpoint, clip, *ANY, "--every", 4, "-o", out, "--no-pictures")
    assert json.loads((out / "predictions.json").read_text()) != bent
    fisheye = ["--fisheye", "0.3,0.1,0,0"]
    predict(checkpoint, clip, *ANY, *fisheye, "--every", 4, "-o", out, "--no-pictures")
    assert list(json.loads((out / "predictions.json").read_text())) == names


def test_a_data_set_with_its_own_cameras(checkpoint: Path, tmp_path: Path) -> None:
    predict(checkpoint, "--data", "data.val_split=test", "--kitti", "-o", tmp_path / "test")
    written = {path.name for path in (tmp_path / "test").rglob("*") if path.is_file()}
    assert written == {"predictions.json", "000000.txt"}
    predict(checkpoint, "--data", "--pictures", "--flip", "-o", tmp_path / "val")
    written = {path.name for path in (tmp_path / "val").rglob("*")}
    assert written == {"predictions.json", "000002.png"}


def test_weak_boxes_of_files_are_left_out_and_those_of_a_data_set_are_kept(
    root: Path, tmp_path: Path
) -> None:
    """Scores of a network that has learnt nothing are near 0.005."""
    unsure = write_checkpoint(root, tmp_path / "unsure", is_sure=False)

    def count(*arguments: object) -> int:
        predict(unsure, *arguments, "--no-pictures", "-o", tmp_path / "out")
        answers = json.loads((tmp_path / "out" / "predictions.json").read_text())
        return sum(map(len, answers.values()))

    files = (root / "training" / "image_2" / "000002.png", "--camera", root / "training" / "calib")
    assert count("--data", "evaluation.min_score=0.001") == count(*files, "--min-score", 0.001) > 0
    assert count(*files) == count("--data", "--min-score", 0.2) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to look at: name images, folders or videos, or give --data"),
        (["a.png"], "--camera is missing: FX,FY,CX,CY, a calibration file or a folder"),
        (["no.png", *ANY], "no.png: no such image, video or folder"),
        (["a.png", "--camera", "700,600"], "--camera=700,600: neither FX,FY,CX,CY nor"),
        (["a.png", "--camera", "0,80,47,31"], "--camera=0,80,47,31 [[0.0, "),
        (["a.png", "--camera", "0,80,47,31"], "focal lengths must be above 0"),
        (["a.png", "--camera", "nan,80,47,31"], "must be a finite 3x3 or 3x4 matrix"),
        (["a.png", "--camera", "inf,80,47,31"], "must be a finite 3x3 or 3x4 matrix"),
        (["a.png", "--camera", "p3.txt"], "p3.txt: no P2, the projection of the left"),
        (["a.png", "--camera", "empty"], "empty/a.txt: cannot be read"),
        (["a.png", *ANY, "--distortion", "1,2,3"], "--distortion=1,2,3: 3 distortion coeff"),
        (["a.png", *ANY, "--distortion", "1,2,x,4"], "--distortion=1,2,x,4: could not convert"),
        (["a.png", *ANY, "--distortion", "1,2,nan,4"], "a coefficient is not finite"),
        (["a.png", *ANY, "--fisheye", "1,2,3,4,5"], "a fisheye lens has 4"),
        (["a.png", *ANY, "--fisheye", "0,0,0,0", "--distortion", "0,0,0,0"], "has one of them"),
        (
            ["a.png", "--camera", "lens.yaml", "--distortion", "0,0,0,0.1"],
            "--distortion: lens.yaml describes the lens already",
        ),
        (["a.png", *ANY, "--camera-height", "nan"], "--camera-height=nan: must be above 0"),
        (["empty", *ANY], "empty: holds no PNG or JPEG image"),
        (["clip.mp4", *ANY], "clip.mp4: not a readable video"),
        (["a.png", "a.png", *ANY], "two are named a"),
        (["data.root=/x", *ANY], "data.root=/x: no such file; a change to the config goes with"),
        (["a.png", *ANY, "--nuscenes"], "--nuscenes: a submission is made of a nuScenes data set"),
        (["--data", *ANY], "--camera: with --data, frames and cameras are the data set's"),
        (["--data", "--every", "2"], "--every: with --data, frames and cameras are"),
        (["--data", "photos"], "override 'photos': must be PATH=VALUE"),
        (["--data", "data.rot=x"], "unknown key data.rot"),
        (["--data", "data.val_split=odd"], "split odd: neither"),
        (["--data", "--nuscenes"], "--nuscenes: a submission is made of a nuScenes data set"),
        (["broken.png", *ANY], "broken.png: image is cut short or empty"),
        (["text.png", *ANY], "text.png: not a readable image"),
        (["a.png", *ANY, "-o", "text.png"], "cannot write text.png: File exists"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(
    arguments: list[str],
    said: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", np.zeros((64, 96, 3), np.uint8))
    Path("broken.png").write_bytes(Path("a.png").read_bytes()[:60])
    Path("text.png").write_bytes(b"no image IEND")
    Path("clip.mp4").write_text("no video")
    Path("p3.txt").write_text(CALIBRATION.replace("P2", "P3"))
    Path("lens.yaml").write_text(YAML + "distortion_coefficients: {data: [0.1, 0, 0, 0, 0]}\n")
    Path("empty").mkdir()
    monkeypatch.setattr(sys, "argv", ["mono3d", "predict", str(checkpoint), *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    (line,) = [text for text in capfd.readouterr().err.splitlines() if text]
    assert line.startswith("mono3d: ")
    assert said in line


def test_cameras_are_numbers_files_or_folders(tmp_path: Path) -> None:
    camera = cameras("700,701,600,180", None)(Path("a.png"))
    assert camera.projection.tolist() == [[700, 0, 600, 0], [0, 701, 180, 0], [0, 0, 1, 0]]
    (tmp_path / "a.txt").write_text(CALIBRATION)
    (tmp_path / "b.yaml").write_text(YAML)
    assert cameras(str(tmp_path / "a.txt"), None)(Path("x.png")).projection[0, 0] == 721.5
    lens = Distortion((0.1, 0.0, 0.0, 0.0))
    of_folder = cameras(str(tmp_path), lens)
    assert of_folder(Path("x/a.png")).projection[0, 3] == 44.86
    assert of_folder(Path("b.avi")).projection[0, 0] == 80
    assert of_folder(Path("b.avi")).distortion == lens
    with pytest.raises(DataError, match=r"c\.txt: cannot be read"):
        of_folder(Path("c.png"))
    with pytest.raises(ConfigError, match="--camera=700,x,600,180: neither FX,FY,CX,CY nor"):
        cameras("700,x,600,180", None)


@pytest.mark.slow
def test_a_killed_process_goes_on_where_it_was(checkpoint: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", 50)
    command = [sys.executable, "-m", "mono3d.cli.main", "predict", str(checkpoint)]
    command += [str(clip), *ANY]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    out, whole = tmp_path / "out", tmp_path / "whole"
    subprocess.run([*command, "-o", str(whole)], check=True, env=environment)
    log = out / "predictions.part.jsonl"
    with subprocess.Popen([*command, "-o", str(out)], env=environment) as process:
        while not log.exists() or log.read_bytes().count(b"\n") < 10:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert not (out / "predictions.json").exists()
    assert 10 <= log.read_bytes().count(b"\n") < 50
    subprocess.run([*command, "-o", str(out)], check=True, env=environment)
    assert {path.name for path in out.iterdir()} >= {"predictions.json", "clip.mp4"}
    assert not log.exists()
    wanted = json.loads((whole / "predictions.json").read_text())
    found = json.loads((out / "predictions.json").read_text())
    assert list(found) == list(wanted)
    for name, boxes in wanted.items():
        assert [box["class"] for box in found[name]] == [box["class"] for box in boxes]
