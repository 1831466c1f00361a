"""`mono3d evaluate`: a checkpoint or an MLflow run on a split."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mono3d.cli.options import OverridesArgument

_SHOWN = (
    "nuscenes_map", "nuscenes_nds", "nuscenes_mate", "nuscenes_car_ap", "centers_depth_abs_rel",
    "matched_depth_abs_rel", "matched_depth_recall",
)  # fmt: skip


def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder or s3:// URI of a checkpoint, or an MLflow run id.")
    ],
    overrides: OverridesArgument = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for metrics.json and figures.")
    ] = None,
) -> None:
    """Measure a checkpoint's averaged weights with the official code, and the quality of its depth.

    The run's own config says data and network; overrides change the data, such as
    `data.val_split=mini_val`.
    """
    from mono3d.training.assess import assess_checkpoint, resolve_checkpoint

    location = resolve_checkpoint(checkpoint)
    assessment = assess_checkpoint(location, overrides or [], output)
    table = Table("metric", "value", title=location)
    for name in _SHOWN:
        if name in assessment.metrics:
            table.add_row(name, f"{assessment.metrics[name]:.4f}")
    Console().print(table)
    if output is not None:
        (output / "metrics.json").write_text(json.dumps(dict(assessment.metrics), indent=2))
        typer.echo(f"metrics and figures in {output}")
