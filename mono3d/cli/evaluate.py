"""`mono3d evaluate`: a checkpoint or an MLflow run on a split."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mono3d.cli.options import OverridesArgument
from mono3d.cli.score_tables import depth_cells, kitti_classes, nuscenes_classes
from mono3d.errors import ConfigError

if TYPE_CHECKING:
    from mono3d.evaluation.oracle import Quantity
    from mono3d.training.assess import Assessment

_DECIDED_BY_DETECTIONS = (
    "nuscenes_map", "nuscenes_nds", "nuscenes_car_ap", "nuscenes_mate", "nuscenes_mase",
    "nuscenes_maoe", "kitti_3d_easy", "kitti_3d_moderate", "kitti_3d_hard", "kitti_bev_moderate",
)  # fmt: skip
"""Depth at true centres is not theirs, and stays as it is whatever an oracle says."""


def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder or s3:// URI of a checkpoint, or an MLflow run id.")
    ],
    overrides: OverridesArgument = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for metrics.json.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Draw figures (PNG) there.")
    ] = None,
    oracle: Annotated[
        str,
        typer.Option(
            metavar="QUANTITIES",
            help="Also score with these replaced by the truth: depth,centre,size,yaw,class.",
        ),
    ] = "",
) -> None:
    """Measure a checkpoint's averaged weights with the official code, and the quality of its depth.

    The run's own config says data and network; overrides change the data, such as
    `data.val_split=mini_val`.
    """
    from mono3d.training.assess import assess_checkpoint
    from mono3d.training.run_record import resolve_checkpoint

    oracles = _quantities(oracle)
    location = resolve_checkpoint(checkpoint)
    assessment = assess_checkpoint(location, overrides or [], figures, oracles)
    typer.echo(location)
    for part in _parts(assessment.metrics):
        _show(part, assessment)
    if figures is not None:
        typer.echo(f"{len(assessment.figures)} figures in {figures}")
    if output is not None:
        metrics = dict(assessment.metrics)
        for quantity, replaced in assessment.oracles.items():
            metrics |= {f"true_{quantity}/{name}": value for name, value in replaced.items()}
        output.mkdir(parents=True, exist_ok=True)
        (output / "metrics.json").write_text(json.dumps(metrics, indent=2))
        typer.echo(f"metrics in {output / 'metrics.json'}")


def _parts(metrics: Mapping[str, float]) -> list[str]:
    """What metrics' names begin with: nothing for all data, then each set of merged data."""
    return list(dict.fromkeys(name[: name.rfind("/") + 1] for name in metrics))


def _show(part: str, assessment: "Assessment") -> None:
    """Tables of all data, or of one set of merged data."""

    def own(metrics: Mapping[str, float]) -> dict[str, float]:
        names = (name for name in metrics if name[: name.rfind("/") + 1] == part)
        return {name.removeprefix(part): metrics[name] for name in names}

    values, console = own(assessment.metrics), Console()
    if part:
        console.rule(part.rstrip("/"))
    if "nuscenes_map" in values:
        console.print(nuscenes_classes(values))
        typer.echo(f"NDS {values['nuscenes_nds']:.4f}, mAP {values['nuscenes_map']:.4f}")
    if "kitti_3d_moderate" in values:
        console.print(kitti_classes(values))
    console.print(depth_cells(values))
    if not assessment.oracles:
        return
    columns = {"as it is": values}
    columns |= {f"true {name}": own(found) for name, found in assessment.oracles.items()}
    table = Table("", *columns, title="with quantities replaced by the truth")
    for name in _DECIDED_BY_DETECTIONS:
        if name in values:
            cells = (f"{metrics[name]:.4f}" for metrics in columns.values())
            # Without the benchmark's name all columns fit a terminal.
            table.add_row(name.partition("_")[2], *cells)
    console.print(table)


def _quantities(text: str) -> "list[Quantity]":
    from mono3d.evaluation.oracle import QUANTITIES

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in QUANTITIES]
    if unknown:
        raise ConfigError(f"--oracle: {unknown[0]!r} is none of {', '.join(QUANTITIES)}")
    return [quantity for quantity in QUANTITIES if quantity in names]
