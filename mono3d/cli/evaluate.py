"""`mono3d evaluate`: a checkpoint or an MLflow run on a split."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mono3d.cli.options import OverridesArgument
from mono3d.errors import ConfigError

if TYPE_CHECKING:
    from mono3d.evaluation.oracle import Quantity

_SHOWN = (
    "nuscenes_map", "nuscenes_nds", "nuscenes_mate", "nuscenes_car_ap", "centers_depth_abs_rel",
    "matched_depth_abs_rel", "matched_depth_recall",
)  # fmt: skip
_SHOWN_WITH_ORACLE = (
    "nuscenes_map", "nuscenes_nds", "nuscenes_car_ap", "nuscenes_mate", "nuscenes_mase",
    "nuscenes_maoe",
)  # fmt: skip
"""What detections decide: depth at true centres is not theirs, and stays as it is."""


def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder or s3:// URI of a checkpoint, or an MLflow run id.")
    ],
    overrides: OverridesArgument = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for metrics.json and figures.")
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
    assessment = assess_checkpoint(location, overrides or [], output, oracles)
    columns = {"value": assessment.metrics} | {
        f"true {name}": metrics for name, metrics in assessment.oracles.items()
    }
    table = Table("metric", *columns, title=location)
    for name in _shown(assessment.metrics, _SHOWN_WITH_ORACLE if oracles else _SHOWN):
        values = (metrics.get(name) for metrics in columns.values())
        # Without the benchmark's name all columns of oracles fit a terminal.
        short = name.removeprefix("nuscenes_") if oracles else name
        table.add_row(short, *("-" if v is None else f"{v:.4f}" for v in values))
    Console().print(table)
    if output is not None:
        metrics = dict(assessment.metrics)
        for quantity, replaced in assessment.oracles.items():
            metrics |= {f"true_{quantity}/{name}": value for name, value in replaced.items()}
        (output / "metrics.json").write_text(json.dumps(metrics, indent=2))
        typer.echo(f"metrics and figures in {output}")


def _shown(measured: Mapping[str, float], wanted: Sequence[str]) -> list[str]:
    """Metrics of the table: the wanted ones of all data, then of each set of merged data."""
    sets = dict.fromkeys(name.rpartition("/")[0] for name in measured)
    names = [f"{part}/{name}" if part else name for part in sets for name in wanted]
    return [name for name in names if name in measured]


def _quantities(text: str) -> "list[Quantity]":
    from mono3d.evaluation.oracle import QUANTITIES

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in QUANTITIES]
    if unknown:
        raise ConfigError(f"--oracle: {unknown[0]!r} is none of {', '.join(QUANTITIES)}")
    return [quantity for quantity in QUANTITIES if quantity in names]
