"""`mono3d predict`: a trained detector on images, videos or a data set."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mono3d.cli.progress import counting
from mono3d.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mono3d.data.cameras import Camera
    from mono3d.data.files import DataPath
    from mono3d.data.undistort import Distortion


def predict(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder or s3:// URI of a checkpoint, or an MLflow run id.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Images and folders of them, also by s3:// URI, and videos; with --data, "
            "PATH=VALUE changes to the run's config, such as data.val_split=test.",
        ),
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Look at the validation split of the run's data set.")
    ] = False,
    camera: Annotated[
        str | None,
        typer.Option(
            help="Focal lengths and principal point, FX,FY,CX,CY in pixels; or a calibration file: "
            "KITTI's, or YAML of ROS or OpenCV; or a folder with one for each image or video, of "
            "its name."
        ),
    ] = None,
    distortion: Annotated[
        str | None,
        typer.Option(
            metavar="K1,K2,P1,P2[,K3[,K4,K5,K6]]",
            help="Distortion of the lens, as OpenCV and ROS count it; it is taken out first.",
        ),
    ] = None,
    fisheye: Annotated[
        str | None,
        typer.Option(metavar="K1,K2,K3,K4", help="The same of a fisheye lens."),
    ] = None,
    camera_height: Annotated[
        float | None,
        typer.Option(help="Metres above the ground of a level camera, where the detector asks."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Look at every N-th frame of a video.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for predictions.json and pictures.")
    ] = Path("runs/predictions"),
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Weaker boxes are left out. Default: the best score of each class in the run's "
            "evaluation, 0.2 where none was measured; of a data set as the run evaluates, where "
            "these are for pictures only.",
        ),
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(help="Average with the mirror image. Default: as the run evaluates."),
    ] = None,
    pictures: Annotated[
        bool | None,
        typer.Option(help="Draw the boxes; a video becomes a video. Default: not of a data set."),
    ] = None,
    kitti: Annotated[
        bool, typer.Option("--kitti", help="Write KITTI result files too, in kitti/.")
    ] = False,
    nuscenes: Annotated[
        bool, typer.Option("--nuscenes", help="Write a submission too, nuscenes.zip; with --data.")
    ] = False,
) -> None:
    """Find objects in images, videos or a data set: boxes in the camera frame, as JSON and drawn.

    Killed at any moment, the same command goes on after the last frame that was done.
    """
    of_files = {
        "--camera": camera, "--distortion": distortion, "--fisheye": fisheye,
        "--camera-height": camera_height, "--every": every,
    }  # fmt: skip
    options = {
        "--data": data, **of_files, "--min-score": min_score, "--flip": flip,
        "--pictures": pictures, "--kitti": kitti, "--nuscenes": nuscenes,
    }  # fmt: skip
    words = inputs or []
    _check_options(words, options, [name for name, value in of_files.items() if value is not None])

    import torch

    from mono3d.data.files import data_path
    from mono3d.training.predict import Detector
    from mono3d.training.prediction_inputs import open_data_set, open_files
    from mono3d.training.prediction_run import NUSCENES, Wanted, predict_inputs

    if camera is None:  # with --data, as has been checked
        detector = Detector.load(checkpoint, overrides=words)
        opened = open_data_set(detector)
    else:
        opened = open_files(
            [data_path(word) for word in words],
            cameras(camera, _lens(distortion, fisheye)),
            camera_height_m=camera_height,
            every=every or 1,
        )
        detector = Detector.load(checkpoint)
    shown = detector.shown_scores
    if min_score is not None:
        shown = torch.full_like(shown, min_score)
    wanted = Wanted(
        folder=output,
        min_scores=None if data and min_score is None else shown,
        drawn_scores=shown,
        flip=flip,
        pictures=not data if pictures is None else pictures,
        kitti=kitti,
        nuscenes=nuscenes,
    )
    limits = None if wanted.min_scores is None else wanted.min_scores.tolist()
    call = {
        "checkpoint": detector.fingerprint, "inputs": words, **options, "--min-score": limits
    }  # fmt: skip
    with counting(Console(stderr=True), "detecting", "{} frames done") as show:
        written = predict_inputs(detector, opened, wanted, call=call, on_frame=show)
    typer.echo(f"{written.boxes} boxes in {written.frames} frames: {written.path}")
    if nuscenes:
        typer.echo(f"submission: {output / NUSCENES}")


def _check_options(words: list[str], options: Mapping[str, object], of_files: list[str]) -> None:
    """Refuse what does not go together, before anything is read."""
    if options["--data"]:
        if of_files:
            raise ConfigError(f"{of_files[0]}: with --data, frames and cameras are the data set's")
        return
    if options["--nuscenes"]:
        raise ConfigError("--nuscenes: a submission is made of a nuScenes data set, with --data")
    if not words:
        raise ConfigError("nothing to look at: name images, folders or videos, or give --data")
    for word in words:
        if "=" in word and not Path(word).exists():
            raise ConfigError(f"{word}: no such file; a change to the config goes with --data")
    if options["--camera"] is None:
        raise ConfigError(
            "--camera is missing: FX,FY,CX,CY, a calibration file or a folder of them"
        )
    if options["--distortion"] and options["--fisheye"]:
        raise ConfigError("--fisheye: there is --distortion too, and a lens has one of them")


def _lens(distortion: str | None, fisheye: str | None) -> "Distortion | None":
    from mono3d.data.undistort import Distortion

    option, text = ("--fisheye", fisheye) if distortion is None else ("--distortion", distortion)
    if text is None:
        return None
    try:
        numbers = tuple(float(word) for word in text.split(","))
        return Distortion(numbers, fisheye=option == "--fisheye")
    except (ValueError, DataError) as error:
        raise ConfigError(f"{option}={text}: {error}") from error


def cameras(text: str, lens: "Distortion | None") -> "Callable[[DataPath], Camera]":
    """What tells the camera that took an image or video, from the option and the lens beside it.

    Raises:
        ConfigError: If the option is none of the things it may be, or the lens is known twice.
        DataError: If a calibration file cannot be used.
    """
    from dataclasses import replace

    from mono3d.data.cameras import camera_file, read_camera
    from mono3d.data.files import data_path

    def with_lens(camera: "Camera") -> "Camera":
        if lens is None:
            return camera
        if camera.distortion is not None:
            option = "--fisheye" if lens.fisheye else "--distortion"
            raise ConfigError(f"{option}: {camera.source} describes the lens already")
        return replace(camera, distortion=lens)

    path = data_path(text)
    if path.is_dir():
        return lambda file: with_lens(read_camera(camera_file(path, file.stem)))
    only = with_lens(read_camera(path) if path.is_file() else _camera_of_numbers(text))
    return lambda file: only


def _camera_of_numbers(text: str) -> "Camera":
    import numpy as np

    from mono3d.data.cameras import Camera, checked_projection

    try:
        fx, fy, cx, cy = (float(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--camera={text}: neither FX,FY,CX,CY nor a calibration file or a folder of them"
        ) from None
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return Camera(projection=checked_projection(matrix, f"--camera={text}"))
