"""All that is written of a prediction, and how it goes on where it was interrupted."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import mono3d
from mono3d.data.cameras import Camera
from mono3d.errors import ConfigError, DataError, StorageError
from mono3d.evaluation.nuscenes import merge_samples
from mono3d.evaluation.nuscenes_submission import submission
from mono3d.training.datasets import build_dataset
from mono3d.training.evaluate import evaluate_split
from mono3d.training.model_assembly import load_network
from mono3d.training.prediction_inputs import PredictionInput, open_data_set, open_files
from mono3d.training.prediction_run import Wanted, Written, predict_inputs
from tests.support.kitti_folder import FRAMES, write_kitti
from tests.support.nuscenes_tables import CLASSES, VERSION, write_tables
from tests.support.training import save_untrained, tiny_config
from tests.support.videos import write_video

CAMERA = Camera(projection=np.array([[80.0, 0, 47.5, 0], [0, 80, 31.5, 0], [0, 0, 1, 0]]))
CALL = {"checkpoint": "abc"}
BATCH = 4


class Killed(BaseException):
    """Ends a prediction like a signal: nothing may be written after it."""


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> mono3d.Detector:
    config = tiny_config(evaluation={"batch_size": BATCH, "top_k": 5})
    return mono3d.Detector.load(save_untrained(config, tmp_path_factory.mktemp("r") / "a"))


def run(
    detector: mono3d.Detector,
    inputs: list[PredictionInput],
    folder: Path,
    *,
    killed_after: int | None = None,
    shown: list[tuple[int, int | None]] | None = None,
    call: dict[str, Any] = CALL,
    **wanted: Any,
) -> Written:
    settings: dict[str, Any] = {
        "min_scores": torch.zeros_like(detector.shown_scores),
        "drawn_scores": torch.zeros_like(detector.shown_scores),
        "flip": None, "pictures": False, "kitti": False, "nuscenes": False,
    }  # fmt: skip

    def on_frame(done: int, total: int | None) -> None:
        if shown is not None:
            shown.append((done, total))
        if done == killed_after:
            raise Killed

    return predict_inputs(
        detector,
        inputs,
        Wanted(folder=folder, **settings | wanted),
        call=call,
        on_frame=on_frame,
    )


def images(folder: Path, count: int = 6) -> list[PredictionInput]:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    return open_files([folder], lambda path: CAMERA)


def answers(folder: Path) -> dict[str, list[dict[str, Any]]]:
    content: dict[str, list[dict[str, Any]]] = json.loads((folder / "predictions.json").read_text())
    return content


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def frames_of(path: Path) -> list[np.ndarray]:
    capture, found = cv2.VideoCapture(str(path)), []
    while capture.grab():
        found.append(capture.retrieve()[1])
    return found


def test_images_become_boxes_pictures_and_result_files(
    tmp_path: Path, detector: mono3d.Detector
) -> None:
    inputs = images(tmp_path / "in", 2)
    written = run(detector, inputs, tmp_path / "out", pictures=True, kitti=True)
    assert files(tmp_path / "out") == {
        "predictions.json", "0.png", "1.png", "kitti/0.txt", "kitti/1.txt",
    }  # fmt: skip
    found = answers(tmp_path / "out")
    assert list(found) == [str(tmp_path / "in" / f"{number}.png") for number in range(2)]
    assert (written.frames, written.boxes) == (2, sum(map(len, found.values())))
    box = found[str(tmp_path / "in" / "0.png")][0]
    assert set(box) == {"class", "score", "center_xyz_m", "dims_hwl_m", "rotation_y_rad"}
    assert (tmp_path / "out" / "0.png").read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "out" / "kitti" / "0.txt").read_text().splitlines()
    assert all(len(line.split()) == 16 for line in lines)


def test_each_class_has_a_least_score_of_its_own(tmp_path: Path, detector: mono3d.Detector) -> None:
    inputs = images(tmp_path / "in", 2)
    found = [one for _, one in detector.detect_all(inputs[0].frames(detector, ()), min_score=0.0)]
    scores = torch.cat([one.scores for one in found])
    labels = torch.cat([one.boxes.labels for one in found])
    common = int(labels.mode().values)
    limits = torch.full_like(detector.shown_scores, 2.0)
    limits[common] = scores[labels == common].median()
    written = run(detector, inputs, tmp_path / "out", min_scores=limits)
    assert written.boxes == int((scores >= limits[labels]).sum())
    assert 0 < written.boxes < len(scores)


@pytest.mark.parametrize("killed_after", [1, 4, 5])
def test_what_was_killed_goes_on_where_it_was(
    tmp_path: Path, detector: mono3d.Detector, killed_after: int
) -> None:
    inputs = images(tmp_path / "in")
    whole: list[tuple[int, int | None]] = []
    run(detector, inputs, tmp_path / "whole", kitti=True, shown=whole)
    assert whole == [(number, 6) for number in range(7)]
    out = tmp_path / "out"
    with pytest.raises(Killed):
        run(detector, inputs, out, kitti=True, killed_after=killed_after)
    assert "predictions.json" not in files(out)
    untouched = {path: path.stat().st_mtime_ns for path in (out / "kitti").iterdir()}
    assert len(untouched) == killed_after
    again: list[tuple[int, int | None]] = []
    run(detector, inputs, out, kitti=True, shown=again)
    assert again[0] == (killed_after, 6)
    assert again[-1] == (6, 6)
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
    assert files(out) == files(tmp_path / "whole")
    assert answers(out).keys() == answers(tmp_path / "whole").keys()
    for name, boxes in answers(tmp_path / "whole").items():
        for box, other in zip(boxes, answers(out)[name], strict=True):
            assert other["center_xyz_m"] == pytest.approx(box["center_xyz_m"], abs=2e-3)


def test_work_of_another_call_is_neither_mixed_nor_lost(
    tmp_path: Path, detector: mono3d.Detector
) -> None:
    inputs = images(tmp_path / "in")
    with pytest.raises(Killed):
        run(detector, inputs, tmp_path / "out", killed_after=3)
    with pytest.raises(ConfigError, match=r"unfinished work of another call \(checkpoint changed"):
        run(detector, inputs, tmp_path / "out", call={"checkpoint": "def"})
    assert run(detector, inputs, tmp_path / "out").frames == 6
    # What is finished is in nobody's way.
    assert run(detector, inputs[:1], tmp_path / "out", call={"checkpoint": "def"}).frames == 6


def test_a_broken_image_stops_the_work_and_loses_nothing(
    tmp_path: Path, detector: mono3d.Detector
) -> None:
    inputs = images(tmp_path / "in")
    broken = tmp_path / "in" / "5.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    said = r"5\.png: image is cut short .*; frames before it \(5\) are in .*predictions\.json$"
    with pytest.raises(DataError, match=said) as error:
        run(detector, inputs, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert len(answers(tmp_path / "out")) == 5
    broken.write_bytes(content)
    shown: list[tuple[int, int | None]] = []
    run(detector, inputs, tmp_path / "out", shown=shown)
    assert shown == [(5, 6), (6, 6)]
    assert len(answers(tmp_path / "out")) == 6
    assert files(tmp_path / "out") == {"predictions.json"}


def test_a_video_becomes_a_video(tmp_path: Path, detector: mono3d.Detector) -> None:
    path = write_video(tmp_path / "clip.avi", 12, rate_hz=10)
    inputs = open_files([path], lambda path: CAMERA, every=2)
    written = run(detector, inputs, tmp_path / "out", pictures=True, kitti=True)
    assert written.frames == 6
    names = [f"clip_{number:06d}" for number in range(0, 12, 2)]
    assert list(answers(tmp_path / "out")) == names
    kitti = {f"kitti/{name}.txt" for name in names}
    assert files(tmp_path / "out") == kitti | {"predictions.json", "clip.mp4"}
    assert len(frames_of(tmp_path / "out" / "clip.mp4")) == 6
    capture = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 5


@pytest.mark.parametrize("killed_after", [3, 4, 9])
def test_a_video_that_was_killed_is_drawn_whole(
    tmp_path: Path, detector: mono3d.Detector, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = open_files([write_video(tmp_path / "clip.avi", 10)], lambda path: CAMERA)
    run(detector, inputs, tmp_path / "whole", pictures=True)
    with pytest.raises(Killed):
        run(detector, inputs, tmp_path / "out", pictures=True, killed_after=killed_after)
    (tmp_path / "out" / "clip.mp4").unlink()  # a signal would not have left it
    asked = []
    original = mono3d.Detector._detect

    def detect(self: mono3d.Detector, frames: Any, settings: Any) -> Any:
        asked.extend(frame.frame_id for frame in frames)
        return original(self, frames, settings)

    monkeypatch.setattr(mono3d.Detector, "_detect", detect)
    run(detector, inputs, tmp_path / "out", pictures=True)
    assert asked == [f"clip_{number:06d}" for number in range(killed_after, 10)]
    drawn, wanted = (frames_of(tmp_path / name / "clip.mp4") for name in ("out", "whole"))
    assert len(drawn) == len(wanted) == 10
    for one, other in zip(drawn, wanted, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 3
    assert len(answers(tmp_path / "out")) == 10


def test_a_video_cut_short_gives_what_it_holds(tmp_path: Path, detector: mono3d.Detector) -> None:
    path = write_video(tmp_path / "clip.avi", 50)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    inputs = open_files([path], lambda path: CAMERA)
    with pytest.raises(
        DataError, match=r"clip\.avi: ends after \d+ of its 50 frames: .*; frames before"
    ):
        run(detector, inputs, tmp_path / "out", pictures=True)
    found = answers(tmp_path / "out")
    assert 5 < len(found) < 45
    assert len(frames_of(tmp_path / "out" / "clip.mp4")) == len(found)


def test_pictures_do_not_replace_what_they_are_of(
    tmp_path: Path, detector: mono3d.Detector
) -> None:
    inputs = images(tmp_path / "in", 1)
    before = (tmp_path / "in" / "0.png").read_bytes()
    with pytest.raises(ConfigError, match=r"in/0\.png would be replaced by its picture"):
        run(detector, inputs, tmp_path / "in", pictures=True)
    assert (tmp_path / "in" / "0.png").read_bytes() == before
    assert run(detector, inputs, tmp_path / "in").frames == 1


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, detector: mono3d.Detector
) -> None:
    inputs = images(tmp_path / "in", 1)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*/file/out: Not a directory"):
        run(detector, inputs, tmp_path / "file" / "out")
    (tmp_path / "out" / "kitti").mkdir(parents=True)
    (tmp_path / "out" / "kitti" / "0.txt").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*/kitti/0\.txt: Is a directory"):
        run(detector, inputs, tmp_path / "out", kitti=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_and_keeps_what_is_there(
    tmp_path: Path, detector: mono3d.Detector
) -> None:
    inputs = images(tmp_path / "in")
    with pytest.raises(Killed):
        run(detector, inputs, tmp_path / "out", kitti=True, killed_after=2)
    (tmp_path / "out" / "kitti" / "3.txt").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device"):
        run(detector, inputs, tmp_path / "out", kitti=True)
    (tmp_path / "out" / "kitti" / "3.txt").unlink()
    shown: list[tuple[int, int | None]] = []
    assert run(detector, inputs, tmp_path / "out", kitti=True, shown=shown).frames == 6
    assert shown[0] == (3, 6)


@pytest.fixture(scope="module")
def nuscenes_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("nuscenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        data = {"root": str(write_tables(folder / "data")), "version": VERSION}
        config = tiny_config(
            data=data | {"val_split": "tiny_val", "class_names": list(CLASSES)},
            evaluation={"batch_size": 5, "min_score": 0.0},
        )
        yield save_untrained(config, folder / "checkpoint", is_sure=True)


def test_a_submission_is_what_evaluation_measures(
    tmp_path: Path, nuscenes_checkpoint: Path
) -> None:
    detector = mono3d.Detector.load(nuscenes_checkpoint)
    wanted = {"nuscenes": True, "kitti": True, "min_scores": None}
    with pytest.raises(Killed):  # between two batches: in others the last bits may differ
        run(detector, open_data_set(detector), tmp_path, killed_after=5, **wanted)
    written = run(detector, open_data_set(detector), tmp_path, **wanted)
    assert written.frames == 12
    with zipfile.ZipFile(tmp_path / "nuscenes.zip") as archive:
        archive.extractall(tmp_path)
    content = json.loads((tmp_path / "results_nusc.json").read_text())

    config, network = load_network(str(nuscenes_checkpoint))
    dataset = build_dataset(config, "val")
    evaluation = evaluate_split(config, network, None, dataset)
    frame_ids = dataset.frame_ids
    poses = {name: dataset.pose(index) for index, name in enumerate(frame_ids)}  # type: ignore[attr-defined]
    found = {answer.frame_id: answer.detections for answer in evaluation.answers}
    assert sum(map(len, content["results"].values())) > 100
    assert content == submission(merge_samples(found, poses, CLASSES), CLASSES)

    metrics = official_metrics(Path(config.data.root), tmp_path)
    assert metrics["label_tp_errors"]["car"]["trans_err"] != 1  # a car was found
    assert metrics["mean_ap"] > 0
    for name in ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"):
        short = {"trans": "ate", "scale": "ase", "orient": "aoe", "vel": "ave", "attr": "aae"}
        ours = evaluation.metrics[f"nuscenes_m{short[name.removesuffix('_err')]}"]
        assert metrics["tp_errors"][name] == ours
    assert metrics["mean_ap"] == evaluation.metrics["nuscenes_map"]
    assert metrics["nd_score"] == evaluation.metrics["nuscenes_nds"]


def official_metrics(root: Path, folder: Path) -> dict[str, Any]:
    """What nuscenes-devkit says of a submission, from its file on."""
    from nuscenes import NuScenes
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    nusc = NuScenes(VERSION, str(root), verbose=False)
    evaluation = DetectionEval(
        nusc, config_factory("detection_cvpr_2019"), str(folder / "results_nusc.json"), "tiny_val",
        str(folder), verbose=False,
    )  # fmt: skip
    metrics, _ = evaluation.evaluate()
    serialized: dict[str, Any] = metrics.serialize()
    return serialized


def test_frames_of_a_data_set_become_result_files(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    data = {"kind": "kitti", "root": str(root), "class_names": ["Car"], "val_split": "all"}
    metric = {"metric": "val/centers_depth_abs_rel", "mode": "min"}
    config = tiny_config(data=data, checkpoint=metric)
    detector = mono3d.Detector.load(save_untrained(config, tmp_path / "checkpoint"))
    run(detector, open_data_set(detector), tmp_path / "out", kitti=True)
    wanted = {f"kitti/{name}.txt" for name in FRAMES} | {"predictions.json"}
    assert files(tmp_path / "out") == wanted
    assert list(answers(tmp_path / "out")) == list(FRAMES)
    with pytest.raises(ConfigError, match="a submission is made of a nuScenes data set"):
        run(detector, open_data_set(detector), tmp_path / "sub", nuscenes=True)
    assert not (tmp_path / "sub").exists()
