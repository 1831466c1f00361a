"""`mono3d predict`: a trained detector on images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from mono3d.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from mono3d.data.files import DataPath
    from mono3d.structures import Detections

_IMAGES = {".png", ".jpg", ".jpeg"}


def predict(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder or s3:// URI of a checkpoint, or an MLflow run id.")
    ],
    images: Annotated[
        list[str], typer.Argument(help="Image files or folders of them; or their s3:// URIs.")
    ],
    camera: Annotated[
        str,
        typer.Option(
            help="Focal lengths and principal point, FX,FY,CX,CY in pixels; or a KITTI calibration "
            "file; or a folder with one for each image, of the image's name. Also s3:// URIs."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for predictions.json and pictures.")
    ] = Path("runs/predictions"),
    camera_height: Annotated[
        float | None,
        typer.Option(help="Metres above the ground of a level camera, where the detector asks."),
    ] = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Weaker boxes are left out.")
    ] = 0.2,
    flip: Annotated[
        bool | None,
        typer.Option(help="Average with the mirror image. Default: as the run evaluates."),
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Draw the boxes.")] = True,
    kitti: Annotated[
        bool, typer.Option("--kitti", help="Write KITTI result files too, in kitti/.")
    ] = False,
) -> None:
    """Find objects in images: boxes in the camera frame, as JSON and drawn on the images."""
    files = _files(images)
    cameras = _cameras(camera, files)
    import torch

    from mono3d.data.kitti_format import result_lines
    from mono3d.evaluation.figures import write_png
    from mono3d.evaluation.prediction_figure import predictions_figure
    from mono3d.geometry.camera import BEV_FROM_LEVEL_CAM
    from mono3d.training.predict import Detector

    detector = Detector.load(checkpoint)
    pose = None
    if camera_height is not None:
        pose = torch.tensor(BEV_FROM_LEVEL_CAM)
        pose[2, 3] = camera_height
    for folder in (output, *([output / "kitti"] if kitti else [])):
        folder.mkdir(parents=True, exist_ok=True)
    answers: dict[str, Any] = {}
    console = Console(stderr=True)
    for file, matrix in zip(
        track(files, "detecting", console=console, transient=True), cameras, strict=True
    ):
        frame = detector.frame(file, matrix, bev_from_cam=pose)
        found = detector.detect(frame, min_score=min_score, flip=flip)
        answers[str(file)] = _as_json(found, detector.class_names)
        if pictures:
            figure = predictions_figure(frame, [found], detector.class_names)
            write_png(figure, output / f"{file.stem}.png")
        if kitti:
            size = (frame.images.shape[-2], frame.images.shape[-1])
            lines = result_lines(found, frame.projection[0], size, detector.class_names)
            (output / "kitti" / f"{file.stem}.txt").write_text("".join(f"{x}\n" for x in lines))
    (output / "predictions.json").write_text(json.dumps(answers, indent=1))
    count = sum(len(boxes) for boxes in answers.values())
    typer.echo(f"{count} boxes in {len(files)} images: {output / 'predictions.json'}")


def _files(locations: list[str]) -> "list[DataPath]":
    from mono3d.data.files import data_path, list_names

    files: list[DataPath] = []
    for path in map(data_path, locations):
        if path.is_dir():
            inside = [path / name for name in list_names(path)]
            images = [file for file in inside if file.suffix.lower() in _IMAGES]
            if not images:
                raise DataError(f"{path}: holds no PNG or JPEG image")
            files += images
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path}: no such image or folder")
    stems = [file.stem for file in files]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise ConfigError(f"images: two are named {twice}, and results are named like the images")
    return files


def _cameras(text: str, images: "list[DataPath]") -> "list[np.ndarray]":
    """Projections of the cameras that took the images."""
    import numpy as np

    from mono3d.data.files import data_path, read_each
    from mono3d.data.kitti_format import read_calibration

    path = data_path(text)
    if path.is_dir():
        files = [path / f"{image.stem}.txt" for image in images]
        return [found.projection for found in read_each(read_calibration, files)]
    if path.is_file():
        return [read_calibration(path).projection] * len(images)
    try:
        fx, fy, cx, cy = (float(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--camera={text}: neither FX,FY,CX,CY nor a calibration file or a folder of them"
        ) from None
    return [np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])] * len(images)


def _as_json(found: "Detections", class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    boxes = found.boxes
    return [
        {
            "class": class_names[label],
            "score": round(score, 4),
            "center_xyz_m": [round(value, 3) for value in center],
            "dims_hwl_m": [round(value, 3) for value in dims],
            "rotation_y_rad": round(yaw, 4),
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
