"""`mono3d data`: make a synthetic data set, look at any."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mono3d.cli.rendering import render
from mono3d.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Make a synthetic data set, or look at one.")


@app.command()
def synth(
    root: Annotated[Path, typer.Argument(help="Folder to write; must not hold another data set.")],
    width: Annotated[int, typer.Option(min=64, help="Of the images, pixels.")] = 800,
    height: Annotated[int, typer.Option(min=36, help="Of the images, pixels.")] = 448,
    train_scenes: Annotated[int, typer.Option(min=1, help="Scenes of split synth_train.")] = 480,
    val_scenes: Annotated[int, typer.Option(min=1, help="Scenes of split synth_val.")] = 52,
    samples: Annotated[int, typer.Option(min=1, help="Samples of six images a scene.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Decides every byte.")] = 0,
    version: Annotated[str, typer.Option(help="Name of the folder of tables.")] = "v1.0-synth",
    processes: Annotated[int, typer.Option(min=1, help="Processes that render.")] = os.cpu_count()
    or 1,
) -> None:
    """Render a seeded little driving world as a genuine nuScenes folder.

    Ten classes, six cameras, LiDAR, all tables: nuscenes-devkit and every tool that reads nuScenes
    read it. The same options give the same bytes; a folder that already holds them is kept.
    """
    from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig

    config = SyntheticConfig(
        image_size=(width, height),
        train_scenes=train_scenes,
        val_scenes=val_scenes,
        samples_per_scene=samples,
        seed=seed,
        version=version,
    )
    summary = render(root, config, num_processes=processes, console=Console(stderr=True))
    typer.echo(f"{'wrote' if summary.is_new else 'kept'} {summary.root}, version {summary.version}")
    for split, count in summary.num_samples.items():
        typer.echo(f"  {split}: {count} samples, {6 * count} images")


@app.command()
def info(
    root: Annotated[Path, typer.Argument(help="A nuScenes folder.")],
    version: Annotated[str, typer.Option(help="Folder of its tables.")] = "v1.0-trainval",
    split: Annotated[str, typer.Option(help="A split, `all`, or a .txt file of scenes.")] = "all",
) -> None:
    """Count scenes, samples, images and objects of a split, by class."""
    from mono3d.codec.nuscenes_names import DETECTION_CLASSES
    from mono3d.data.nuscenes import NuScenesDataset

    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder")
    dataset = NuScenesDataset(root, version=version, split=split, class_names=DETECTION_CLASSES)
    summary = dataset.describe()
    table = Table("class", "objects", title=f"{root} {version} {split}")
    for name, count in summary.objects.items():
        table.add_row(name, str(count))
    Console().print(table)
    typer.echo(f"scenes {summary.scenes}, samples {summary.samples}, images {summary.frames}")
    typer.echo(f"fingerprint {dataset.fingerprint[:16]}")
