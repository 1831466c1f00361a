"""`mono3d metrics waymo`: detections against ground truth by Waymo's rules, without any model."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from mono3d.cli.json_output import JsonOption, write_json

if TYPE_CHECKING:
    from mono3d.evaluation.waymo_metrics import Score


def waymo(
    ground_truth: Annotated[
        Path,
        typer.Option(
            help="File of Waymo Objects, or folder of KITTI labels, with LiDAR points as 16th value"
        ),
    ],
    detections: Annotated[
        Path, typer.Option(help="File of Waymo Objects or folder of KITTI results, as the former.")
    ],
    frames: Annotated[
        Path | None,
        typer.Option(help="Frames to evaluate, a name a line; otherwise all with ground truth."),
    ] = None,
    output: JsonOption = None,
) -> None:
    """Waymo's 3D AP and APH by type, level and distance, and LET-3D-AP for cameras.

    The JSON is {"std"|"std_iou_0.5"|"let": {TYPE: {"LEVEL_1"|"LEVEL_2": {BAND: {"num_labels",
    "ap", "aph", "apl"}}}}}, such as std, VEHICLE, LEVEL_1, "[30, 50)". Every AP is in [0, 1] there,
    and in percent on the screen. "std" are Waymo's overlaps (0.7 for vehicles, 0.5 for others),
    "std_iou_0.5" has 0.5 for all, and "let" (0.5 and 0.3) forgives errors along the ray from the
    camera; "apl" weights hits by them, and is null elsewhere. In place of all four is null where
    the labels cannot tell: LEVEL_2 without numbers of LiDAR points, and "let" without camera names.

    Distances are from the origin of the boxes: of the vehicle in Waymo's files, of the camera in
    KITTI text. Names of frames are those of the text files, and CONTEXT/TIMESTAMP in Waymo's.
    """
    from mono3d.evaluation.waymo_format import read_waymo
    from mono3d.evaluation.waymo_metrics import waymo_metrics

    tables = waymo_metrics(read_waymo(ground_truth, detections, frames))
    columns = ("AP", "APH", "AP@.5", "APH@.5", "LET-AP", "-APH", "-APL")
    numbers = (Column(name, justify="right") for name in columns)
    shown = Table("type", "level", "metres", *numbers, box=None, pad_edge=False)
    shown.title = f"{detections}: percent; types without labels are left out"
    for kind, levels in tables["std"].items():
        for level, bands in levels.items():
            for band, score in bands.items():
                if score is not None and bands["all"] and bands["all"].num_labels:
                    scores = (table[kind][level][band] for table in tables.values())
                    shown.add_row(kind, level[-1], band, *chain(*map(_cells, scores)))
    Console().print(shown)
    if output is not None:
        write_json(output, tables)


def _cells(score: "Score | None") -> list[str]:
    """AP and APH, and APL where the table has it."""
    if score is None:
        return ["-"] * 3  # Only the whole table "let" is missing where others are there.
    values = [score.ap, score.aph] + ([] if score.apl is None else [score.apl])
    return [f"{100 * value:.2f}" for value in values]
