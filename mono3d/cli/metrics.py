"""`mono3d metrics`: result files against ground truth by a benchmark's rules, without any model."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mono3d.cli.json_output import JsonOption, write_json
from mono3d.cli.metrics_waymo import waymo
from mono3d.cli.score_tables import nuscenes_classes
from mono3d.errors import DataError

if TYPE_CHECKING:
    from mono3d.evaluation.kitti_ap import KittiCurves, Strictness
    from mono3d.evaluation.nuscenes_devkit import NuScenesMetrics

app = typer.Typer(
    no_args_is_help=True, help="Score result files as the benchmarks do; no model, no GPU."
)
app.command()(waymo)


@app.command()
def kitti(
    ground_truth: Annotated[Path, typer.Option(help="Folder of label files, NAME.txt a frame.")],
    detections: Annotated[Path, typer.Option(help="Folder of result files of the same names.")],
    frames: Annotated[
        Path | None,
        typer.Option(help="Frames to evaluate, a name a line; otherwise all with ground truth."),
    ] = None,
    classes: Annotated[
        str, typer.Option(help="Also such as Van or Truck, which the benchmark does not evaluate.")
    ] = "Car,Pedestrian,Cyclist",
    output: JsonOption = None,
) -> None:
    """KITTI's object benchmark: AP in 2D, from above and in 3D, and AOS, as the official program.

    The JSON is {"std"|"loose": {CLASS: {"2d"|"aos"|"bev"|"3d": {"R40"|"R11": NUMBERS}}}}, where
    NUMBERS are easy, moderate and hard, in percent; null where the benchmark does not evaluate.
    "std" are the official overlaps (0.7 for cars, 0.5 for others), "loose" has 0.5 and 0.25 from
    above and in 3D.
    """
    from mono3d.evaluation.kitti_ap import CLASSES, as_json, evaluate_kitti
    from mono3d.evaluation.kitti_tables import (
        LABEL_COLUMNS,
        RESULT_COLUMNS,
        frame_names,
        read_table,
    )

    names = frame_names(ground_truth, frames)
    labels = read_table(ground_truth, names, LABEL_COLUMNS)
    results = read_table(detections, names, RESULT_COLUMNS)
    chosen = [name.strip() for name in classes.split(",")]
    for name in chosen:
        if name not in CLASSES and name.lower() not in labels.types:
            known = ", ".join(sorted(set(labels.types.tolist())))
            raise DataError(f"--classes {name}: {ground_truth} has no such label; it has {known}")
    curves = evaluate_kitti(labels, results, chosen)
    typer.echo(f"{len(names)} frames, {len(results)} results; AP R40 in percent")
    Console().print(_kitti_table(curves))
    if output is not None:
        write_json(output, as_json(curves))


def _kitti_table(curves: "Mapping[Strictness, KittiCurves]") -> Table:
    table = Table("class", "", *("easy", "moderate", "hard") * len(curves))
    for name in curves["std"]:
        for kind in curves["std"][name]:
            found = [by_class[name][kind] for by_class in curves.values()]
            cells = (["-"] * 3 if c is None else [f"{v:.2f}" for v in c.r40] for c in found)
            table.add_row(name, kind, *itertools.chain.from_iterable(cells))
        table.add_section()
    table.title = "official overlaps, then looser ones"
    return table


@app.command()
def nuscenes(
    root: Annotated[Path, typer.Option(help="nuScenes folder with the ground truth.")],
    version: Annotated[str, typer.Option(help="Folder of its tables, such as v1.0-trainval.")],
    split: Annotated[str, typer.Option(help="Such as val or mini_val; `all` for every sample.")],
    detections: Annotated[Path, typer.Option(help="Submission file (results_nusc.json).")],
    camera: Annotated[
        str,
        typer.Option(help="Count only objects and boxes whose centre these cameras see: CAM_FRONT"),
    ] = "",
    per_camera: Annotated[
        bool, typer.Option("--per-camera", help="Also each camera's objects by themselves.")
    ] = False,
    output: JsonOption = None,
) -> None:
    """The nuScenes detection benchmark, by nuscenes-devkit (detection_cvpr_2019).

    The JSON is the devkit's metrics_summary.json; with --per-camera it has each camera's under
    "cameras".
    """
    from mono3d.codec.nuscenes_names import CAMERAS
    from mono3d.evaluation.nuscenes_devkit import (
        evaluate_submission,
        read_submission,
        samples_of_split,
    )

    content = read_submission(detections)
    tokens = samples_of_split(root, version, split)
    missing = [token for token in tokens if token not in content["results"]]
    if missing:
        raise DataError(
            f"{detections}: lacks {len(missing)} of the {len(tokens)} samples of {split}, such as "
            f"{missing[0]}; a sample without detections has an empty list"
        )
    place: dict[str, Any] = {"root": root, "version": version, "sample_tokens": tokens}
    chosen = [name.strip() for name in camera.split(",") if name.strip()]
    found = evaluate_submission(content, **place, cameras=chosen)
    summary = {**found.summary, "meta": content["meta"]}
    typer.echo(f"{split}: {len(tokens)} samples, {camera or 'all cameras'}")
    Console().print(nuscenes_classes(found.values, found.num_ground_truth))
    typer.echo(f"NDS {found.values['nuscenes_nds']:.4f}, mAP {found.values['nuscenes_map']:.4f}")
    if per_camera:
        by_camera = {
            name: evaluate_submission(content, **place, cameras=[name])
            for name in chosen or CAMERAS
        }
        _show_cameras(by_camera)
        summary["cameras"] = {name: dict(found.summary) for name, found in by_camera.items()}
    if output is not None:
        write_json(output, summary)


def _show_cameras(by_camera: "Mapping[str, NuScenesMetrics]") -> None:
    table = Table("camera", "objects", "mAP", "NDS", "mATE", "car AP", "pedestrian AP")
    for name, found in by_camera.items():
        keys = ("map", "nds", "mate", "car_ap", "pedestrian_ap")
        values = (f"{found.values[f'nuscenes_{key}']:.3f}" for key in keys)
        table.add_row(name, str(sum(found.num_ground_truth.values())), *values)
    Console().print(table)
