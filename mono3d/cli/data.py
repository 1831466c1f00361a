"""`mono3d data`: make a synthetic data set, look at any."""

import os
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mono3d.cli.options import OverridesArgument, RecipeArgument
from mono3d.cli.rendering import render
from mono3d.errors import ConfigError

if TYPE_CHECKING:
    from mono3d.data.kitti import KittiDataset
    from mono3d.data.nuscenes import NuScenesDataset

app = typer.Typer(no_args_is_help=True, help="Make a synthetic data set, or look at one.")


class Format(StrEnum):
    """Formats that a synthetic data set can be written in."""

    NUSCENES = "nuscenes"
    KITTI = "kitti"


@app.command()
def synth(
    root: Annotated[
        Path,
        typer.Argument(file_okay=False, help="Folder to write; must not hold another data set."),
    ],
    format_: Annotated[
        Format, typer.Option("--format", help="What reads the folder.")
    ] = Format.NUSCENES,
    width: Annotated[
        int | None, typer.Option(min=64, help="Of the images, pixels. Default: 800, KITTI 1242.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=36, help="Of the images, pixels. Default: 448, KITTI 375.")
    ] = None,
    train_scenes: Annotated[int, typer.Option(min=1, help="Scenes to train on.")] = 240,
    val_scenes: Annotated[int, typer.Option(min=1, help="Scenes to measure on.")] = 52,
    test_scenes: Annotated[
        int | None, typer.Option(min=0, help="KITTI: scenes of testing/. Default: 4.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Moments a scene, half a second apart.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Decides every byte.")] = 0,
    version: Annotated[
        str | None, typer.Option(help="nuScenes: folder of the tables. Default: v1.0-synth.")
    ] = None,
    biased_labels: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="nuScenes: share of training labels, mostly of hidden and far objects, that are"
            " too far away on purpose; 0 to 0.5.",
        ),
    ] = 0.0,
    processes: Annotated[int, typer.Option(min=1, help="Processes that render.")] = os.cpu_count()
    or 1,
) -> None:
    """Render a seeded little driving world as a genuine nuScenes or KITTI object folder.

    Every tool that reads the format reads the folder. nuScenes: ten classes, six cameras, LiDAR,
    all tables. KITTI: one camera, Velodyne, calibration, labels, lists of splits, unlabelled frames
    in testing/. The same options give the same bytes; a folder that already holds them is kept.
    """
    from mono3d.data.synthetic.folder import SyntheticSummary
    from mono3d.data.synthetic.kitti_folder import SyntheticKittiConfig, write_kitti
    from mono3d.data.synthetic.label_faults import MAX_BIASED_SHARE
    from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes

    write: Callable[..., SyntheticSummary]
    if format_ is Format.KITTI:
        if version is not None:
            raise ConfigError(f"--version {version}: a KITTI folder has no version")
        if biased_labels:
            raise ConfigError(f"--biased-labels {biased_labels}: only a nuScenes folder has them")
        kitti = SyntheticKittiConfig(
            image_size=(width or 1242, height or 375),
            train_scenes=train_scenes,
            val_scenes=val_scenes,
            test_scenes=4 if test_scenes is None else test_scenes,
            samples_per_scene=samples,
            seed=seed,
        )
        write, kind, images_per_sample = partial(write_kitti, root, kitti), "KITTI's format", 1
    else:
        if test_scenes is not None:
            raise ConfigError(f"--test-scenes {test_scenes}: only a KITTI folder has testing/")
        if not 0 <= biased_labels <= MAX_BIASED_SHARE:
            raise ConfigError(f"--biased-labels {biased_labels}: must be 0 to {MAX_BIASED_SHARE}")
        nuscenes = SyntheticConfig(
            image_size=(width or 800, height or 448),
            train_scenes=train_scenes,
            val_scenes=val_scenes,
            samples_per_scene=samples,
            seed=seed,
            version=version or "v1.0-synth",
            biased_labels=biased_labels,
        )
        write, kind = partial(write_nuscenes, root, nuscenes), f"version {nuscenes.version}"
        images_per_sample = 6
    summary = render(
        lambda show: write(num_processes=processes, on_progress=show), console=Console(stderr=True)
    )
    typer.echo(f"{'wrote' if summary.is_new else 'kept'} {summary.root}, {kind}")
    for split, count in summary.num_samples.items():
        typer.echo(f"  {split}: {count} samples, {images_per_sample * count} images")
    if summary.num_biased_labels:
        typer.echo(f"  {summary.num_biased_labels} training labels too far away, on purpose")


RootArgument = Annotated[
    str, typer.Argument(help="A nuScenes folder, or one in KITTI's format; or its s3:// URI.")
]
VersionOption = Annotated[str, typer.Option(help="Folder of a nuScenes folder's tables.")]
SplitOption = Annotated[str, typer.Option(help="A split, `all`, or a .txt file of names.")]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option("--class", help="Class to look for, once for each. Default: the benchmark's."),
]


@app.command()
def info(
    root: RootArgument,
    version: VersionOption = "v1.0-trainval",
    split: SplitOption = "all",
    classes: ClassesOption = None,
) -> None:
    """Count frames and objects of a split, by class."""
    from mono3d.data.kitti import KittiSummary

    dataset = _open(root, version, split, classes, with_points=False)
    summary = dataset.describe()
    table = Table("class", "objects", title=root)
    for name, count in summary.objects.items():
        table.add_row(name, str(count))
    Console().print(table)
    if isinstance(summary, KittiSummary):
        others = {k: n for k, n in summary.types.items() if k not in summary.objects}
        counts = f"images {summary.frames}"
    else:
        others = dict(summary.others)
        counts = f"scenes {summary.scenes}, samples {summary.samples}, images {summary.frames}"
    typer.echo(counts + (f", other labels {others}" if others else ""))
    typer.echo(f"fingerprint {dataset.fingerprint[:16]}")


@app.command()
def verify(
    root: RootArgument,
    version: VersionOption = "v1.0-trainval",
    split: SplitOption = "all",
    classes: ClassesOption = None,
    points: Annotated[
        bool, typer.Option("--points", help="Read the LiDAR sweeps too; each frame needs one.")
    ] = False,
) -> None:
    """Read every frame as training would, and say what is broken or odd.

    Exit code 2 if a frame cannot be used; what is only odd is said and changes nothing.
    """
    from mono3d.data.verify import verify_frame

    dataset = _open(root, version, split, classes, with_points=points)
    console, errors, notes = Console(stderr=True), 0, 0
    for index in track(range(len(dataset)), "reading frames", console=console, transient=True):
        for finding in verify_frame(dataset, index):
            errors, notes = errors + finding.is_error, notes + (not finding.is_error)
            kind = "broken" if finding.is_error else "odd"
            typer.echo(f"{kind:<6} {finding.frame_id}: {finding.text}")
    typer.echo(f"{len(dataset)} frames read: {errors} broken, {notes} odd")
    if errors:
        raise typer.Exit(2)


@app.command()
def show(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for one picture a frame.")
    ] = Path("runs/shown"),
    frames: Annotated[
        str, typer.Option(help="Numbers of frames of the training split, such as 0,7,20.")
    ] = "0,1,2,3",
    epoch: Annotated[
        int, typer.Option(min=0, help="Epoch whose augmentation and image size are shown.")
    ] = 0,
    points: Annotated[
        bool, typer.Option(help="Draw LiDAR depth; each frame needs a sweep.")
    ] = True,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Whose depths mining weighs. Default: the network as it starts."),
    ] = None,
) -> None:
    """Draw what training would teach of frames: labels, targets, mining weights, LiDAR depth.

    All of it comes from the loader's and the objective's own code, before any training.
    """
    from mono3d.config.load import load_recipe
    from mono3d.evaluation.figures import write_png
    from mono3d.evaluation.target_figure import teaching_figure
    from mono3d.training.datasets import build_dataset
    from mono3d.training.run_record import resolve_checkpoint
    from mono3d.training.show import show_frames

    try:
        numbers = [int(number) for number in frames.split(",")]
    except ValueError:
        raise ConfigError(f"--frames={frames}: must be numbers with commas between") from None
    config = load_recipe(recipe, overrides or [])
    location = None if checkpoint is None else resolve_checkpoint(checkpoint)
    dataset = build_dataset(config, "train", with_points=points)
    output.mkdir(parents=True, exist_ok=True)
    mined_by = "the untrained network" if location is None else Path(location).name
    shown = show_frames(config, dataset, numbers, epoch=epoch, checkpoint=location)
    for number, item in zip(numbers, shown, strict=True):
        figure = teaching_figure(item.frame, item.teaching, config.data.class_names, mined_by)
        path = output / f"{number:06d}.png"
        write_png(figure, path)
        typer.echo(f"{item.frame.frame_id}: {path}")


def _open(
    root: str, version: str, split: str, classes: list[str] | None, *, with_points: bool
) -> "KittiDataset | NuScenesDataset":
    """KITTI's format where there is a training/ or testing/ folder, else nuScenes'."""
    from mono3d.codec.nuscenes_names import DETECTION_CLASSES
    from mono3d.config.data_sections import KITTI_CLASSES
    from mono3d.data.files import data_path
    from mono3d.data.kitti import KittiDataset
    from mono3d.data.nuscenes import NuScenesDataset
    from mono3d.data.nuscenes_labels import check_has_objects

    folder = data_path(root)
    if not folder.is_dir():
        raise ConfigError(f"{root}: no such folder")
    if any((folder / part).is_dir() for part in ("training", "testing")):
        return KittiDataset(
            folder, split=split, class_names=classes or KITTI_CLASSES, with_points=with_points
        )
    check_has_objects(classes or DETECTION_CLASSES, {})
    return NuScenesDataset(
        folder,
        version=version,
        split=split,
        class_names=classes or DETECTION_CLASSES,
        with_points=with_points,
    )
