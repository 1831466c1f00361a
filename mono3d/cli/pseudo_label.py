"""`mono3d pseudo-label`: a trained detector's boxes as labels of frames that have none."""

from typing import Annotated

import typer
from rich.console import Console

from mono3d.cli.progress import counting


def pseudo_label(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder or s3:// URI of a checkpoint, or an MLflow run id.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH=VALUE",
            help="Changes to the run's config: data.train_split and data.root say which frames.",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="File to write, or its s3:// URI.")
    ] = "runs/pseudo_labels.jsonl",
    set_name: Annotated[
        str | None,
        typer.Option("--set", help="Of merged data, which set; else the only one without labels."),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Weaker boxes are left out. Default: the best score of each class in the run's "
            "evaluation, 0.2 where none was measured, as KITTI's does not.",
        ),
    ] = None,
) -> None:
    """Look for objects in the training split of the run's data, and write them as labels.

    The detector may read LiDAR. Labels of the frames, if there are any, are not read. What it finds
    is learnt by naming the file in data.sets.NAME.pseudo_labels of a set with has_labels=false.

    Killed at any moment, the same command goes on after the last frame that was done.
    """
    import torch

    from mono3d.training.checkpoint import EMA, read_metadata
    from mono3d.training.checkpoint_files import digest
    from mono3d.training.predict import Detector
    from mono3d.training.pseudo_label import answering, check_output, open_unlabelled
    from mono3d.training.pseudo_label import pseudo_label as label
    from mono3d.training.run_record import resolve_checkpoint

    check_output(output)
    location = resolve_checkpoint(checkpoint)
    detector = Detector.load(location, overrides=overrides or [], may_read_lidar=True)
    metadata = read_metadata(location)
    limits = detector.shown_scores
    if min_score is not None:
        limits = torch.full_like(limits, min_score)
    with counting(Console(stderr=True), "labelling", "{} frames done") as show:
        found = label(
            detector,
            open_unlabelled(detector.config, set_name),
            output,
            teacher={
                "checkpoint": location,
                "step": metadata.step,
                "fingerprint": digest(location, EMA),
                "settings": answering(detector.config),
                "data": dict(metadata.data),
            },
            min_scores=limits,
            on_frame=show,
        )
    of_classes = ", ".join(f"{count} {name}" for name, count in found.boxes.items() if count)
    typer.echo(f"{of_classes or 'no boxes'} in {found.moments} frames: {output}")
