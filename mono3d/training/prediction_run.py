"""A detector over inputs, with all that is written of it; goes on where it was interrupted."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mono3d.data.kitti_format import result_lines
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.errors import ConfigError, DataError, StorageError
from mono3d.evaluation.annotated_video import AnnotatedVideo
from mono3d.evaluation.figures import write_png
from mono3d.evaluation.nuscenes_merge import merge_cameras
from mono3d.evaluation.nuscenes_submission import write_submission
from mono3d.evaluation.prediction_figure import predictions_figure
from mono3d.structures import Detections, Frame
from mono3d.training.frame_log import PredictionLog
from mono3d.training.predict import Detector
from mono3d.training.prediction_inputs import (
    DataSetFrames,
    ImageFiles,
    PredictionInput,
    VideoFile,
)

PREDICTIONS = "predictions.json"
UNFINISHED = "predictions.part.jsonl"
KITTI = "kitti"
NUSCENES = "nuscenes.zip"

OnFrame = Callable[[int, int | None], None]
"""Told how many frames are done and how many there are, about, if that is known."""
_Draw = Callable[[Frame, Detections], None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is looked for, and what is written of it."""

    folder: Path
    min_scores: Float[Tensor, " classes"] | None
    """Weaker detections are left out; None is the run's own limit for all classes."""
    drawn_scores: Float[Tensor, " classes"]
    """Weaker detections are not drawn."""
    flip: bool | None
    """Average with the mirror image; None is as the run evaluates."""
    pictures: bool
    kitti: bool
    """A result file for each frame."""
    nuscenes: bool
    """A submission for the frames of a nuScenes data set."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What came of it."""

    path: Path
    frames: int
    boxes: int


def predict_inputs(
    detector: Detector,
    inputs: Sequence[PredictionInput],
    wanted: Wanted,
    *,
    call: Mapping[str, Any],
    on_frame: OnFrame,
) -> Written:
    """Detect in all frames of all inputs and write what is wanted.

    Detections are in the file UNFINISHED as soon as they are made, and in PREDICTIONS when all are
    there. Interrupted at any moment, the same call goes on after the last frame that is there.

    Args:
        detector: To ask.
        inputs: Whose frames have different names.
        wanted: Results.
        call: What decides the detections, so that work of another call is not taken up.
        on_frame: Told at the beginning and after each frame.

    Raises:
        ConfigError: If a submission is wanted of other data, or another call is unfinished there.
        DataError: If an input cannot be read to its end; PREDICTIONS then holds what came before.
        StorageError: If something cannot be written.
    """
    if wanted.nuscenes:
        _nuscenes_of(inputs)
    in_bev = _answers_in_bev(detector, inputs)
    if wanted.kitti and in_bev:
        raise ConfigError(
            f"--kitti: result files are of one camera, and this detector answers for "
            f"{detector.num_cameras} at once; data.cameras=[CAM_FRONT] asks it about one"
        )
    if wanted.pictures:
        _spare_files(inputs, wanted.folder)
    answers = _Answers(
        class_names=detector.class_names,
        names={
            path.stem: str(path)
            for one in inputs
            if isinstance(one, ImageFiles)
            for path in one.files
        },
        yaw_name="yaw_rad" if in_bev else "rotation_y_rad",
    )
    with _storage_errors(wanted.folder):
        for folder in (wanted.folder, *([wanted.folder / KITTI] if wanted.kitti else [])):
            folder.mkdir(parents=True, exist_ok=True)
        with PredictionLog(wanted.folder / UNFINISHED, call) as log:
            try:
                _fill(log, detector, inputs, wanted, on_frame)
            except DataError as error:
                if not log.count:
                    raise
                written = _write_json(log, wanted.folder, answers)
                raise DataError(
                    f"{error}; frames before it ({written.frames}) are in {written.path}"
                ) from error
            if wanted.nuscenes:
                _write_nuscenes(log, _nuscenes_of(inputs), wanted.folder, detector.class_names)
            written = _write_json(log, wanted.folder, answers)
            log.delete()
    return written


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    """What a disk refuses, in one line; readers of data say their own errors."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {error.filename or folder}: {error.strerror}") from error


def _spare_files(inputs: Sequence[PredictionInput], folder: Path) -> None:
    """Refuse to write pictures over what they are pictures of."""
    files = [path for one in inputs if isinstance(one, ImageFiles) for path in one.files]
    images = [path for path in files if isinstance(path, Path)]
    videos = [one.video.path for one in inputs if isinstance(one, VideoFile)]
    for path in (*images, *videos):
        if path.suffix in {".png", ".mp4"} and path.resolve().parent == folder.resolve():
            raise ConfigError(
                f"--output={folder}: {path} would be replaced by its picture; choose another folder"
            )


def _nuscenes_of(inputs: Sequence[PredictionInput]) -> NuScenesDataset:
    match inputs:
        case [DataSetFrames(dataset=NuScenesDataset() as dataset)]:
            return dataset
    raise ConfigError("--nuscenes: a submission is made of a nuScenes data set, with --data")


def _fill(
    log: PredictionLog,
    detector: Detector,
    inputs: Sequence[PredictionInput],
    wanted: Wanted,
    on_frame: OnFrame,
) -> None:
    """Bring the frames that are missing into the log, with a picture and result file of each."""
    counts = [one.num_frames for one in inputs]
    total = None if None in counts else sum(count for count in counts if count is not None)
    on_frame(log.count, total)
    for one in inputs:
        # A video with boxes is written from its beginning, also where its frames are in the log.
        is_redrawn = wanted.pictures and isinstance(one, VideoFile)
        frames = one.frames(detector, () if is_redrawn else log.done)
        with _pictures(one, wanted, detector.class_names) as draw:
            for frame, found in _answers(log, detector, frames, wanted):
                draw(frame, found)
                if frame.frame_id in log.done:
                    continue
                if wanted.kitti:
                    _write_kitti(wanted.folder / KITTI, frame, found, detector.class_names)
                log.add(frame.frame_id, found)
                on_frame(log.count, total)


def _answers(
    log: PredictionLog, detector: Detector, frames: Iterator[Frame], wanted: Wanted
) -> Iterator[tuple[Frame, Detections]]:
    """Frames with what the log or the detector says of them."""
    for is_done, some in groupby(frames, key=lambda frame: frame.frame_id in log.done):
        if is_done:
            yield from ((frame, log.read(frame.frame_id)) for frame in some)
        else:
            limits = wanted.min_scores
            least = None if limits is None else float(limits.min())
            for frame, found in detector.detect_all(some, min_score=least, flip=wanted.flip):
                yield frame, found if limits is None else _strong(found, limits)


@contextmanager
def _pictures(one: PredictionInput, wanted: Wanted, class_names: Sequence[str]) -> Iterator[_Draw]:
    """What draws detections: into a video of a video, and else a picture of each frame."""

    def draw(frame: Frame, found: Detections) -> None:
        figure = predictions_figure(frame, _strong(found, wanted.drawn_scores), class_names)
        write_png(figure, wanted.folder / f"{frame.frame_id}.png")

    if not wanted.pictures:
        yield lambda frame, found: None
    elif isinstance(one, VideoFile):
        path = wanted.folder / f"{one.video.path.stem}.mp4"
        rate_hz = one.video.rate_hz / one.every
        with AnnotatedVideo(path, rate_hz=rate_hz, class_names=class_names) as video:
            yield lambda frame, found: video.add(frame, _strong(found, wanted.drawn_scores))
    else:
        yield draw


def _strong(found: Detections, limits: Float[Tensor, " classes"]) -> Detections:
    return found.select(found.scores >= limits[found.boxes.labels])


def _write_kitti(folder: Path, frame: Frame, found: Detections, class_names: Sequence[str]) -> None:
    size = (frame.images.shape[-2], frame.images.shape[-1])
    lines = result_lines(found, frame.projection[0], size, class_names)
    (folder / f"{frame.frame_id}.txt").write_text("".join(f"{line}\n" for line in lines))


def _write_nuscenes(
    log: PredictionLog, dataset: NuScenesDataset, folder: Path, class_names: Sequence[str]
) -> None:
    """Merge the cameras of each sample as evaluation does, and write the submission."""
    log.index()
    frame_ids = dataset.frame_ids
    samples = (
        (
            token,
            merge_cameras([(log.read(frame_ids[i]), dataset.pose(i)) for i in views], class_names),
        )
        for token, views in groupby(range(len(dataset)), key=dataset.moment_of)
    )
    write_submission(samples, class_names, folder / NUSCENES)


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """How detections are called in PREDICTIONS."""

    class_names: Sequence[str]
    names: Mapping[str, str]
    """Of frames, where not by their own name."""
    yaw_name: str
    """About the camera's y axis, or, for several cameras, about the bev frame's z axis."""


def _answers_in_bev(detector: Detector, inputs: Sequence[PredictionInput]) -> bool:
    """Whether frames have several cameras, so that detections are in the bev frame."""
    return detector.num_cameras > 1 and any(isinstance(one, DataSetFrames) for one in inputs)


def _write_json(log: PredictionLog, folder: Path, answers: _Answers) -> Written:
    """Write PREDICTIONS, one frame a line, at once or not at all."""
    path = folder / PREDICTIONS
    part = path.with_name(f".{path.name}.part")
    frames = boxes = 0
    with part.open("w") as stream:
        stream.write("{")
        for frame_id, found in log:
            name = json.dumps(answers.names.get(frame_id, frame_id))
            stream.write(f"{',' if frames else ''}\n{name}: {json.dumps(_as_json(found, answers))}")
            frames, boxes = frames + 1, boxes + len(found)
        stream.write("\n}\n")
    part.replace(path)
    return Written(path=path, frames=frames, boxes=boxes)


def _as_json(found: Detections, answers: _Answers) -> list[dict[str, Any]]:
    boxes = found.boxes
    return [
        {
            "class": answers.class_names[label],
            "score": round(score, 4),
            "center_xyz_m": [round(value, 3) for value in center],
            "dims_hwl_m": [round(value, 3) for value in dims],
            answers.yaw_name: round(yaw, 4),
        }
        for label, score, center, dims, yaw in zip(
            boxes.labels.tolist(),
            found.scores.tolist(),
            boxes.centers.tolist(),
            boxes.dims_hwl.tolist(),
            boxes.yaw.tolist(),
            strict=True,
        )
    ]
