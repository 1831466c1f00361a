"""`mono3d demo`: the main job on a machine with two cores and nothing else."""

import itertools
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mono3d.cli.rendering import render
from mono3d.errors import ConfigError
from mono3d.services.address import RUNS_URI
from mono3d.services.stack import running_stack
from mono3d.training.progress import Progress, ProgressSink

if TYPE_CHECKING:
    from mono3d.config.schema import RunConfig

_TRAIN_SCENES, _VAL_SCENES, _SAMPLES = 480, 52, 2
_IMAGES, _IMAGES_IN_BFLOAT16 = 8_800, 26_000
"""Seen in training: what two cores manage in eight minutes all in all, with AVX2 and with AMX."""
_ROWS = {
    "mAP": "nuscenes_map",
    "car AP": "nuscenes_car_ap",
    "NDS": "nuscenes_nds",
    "depth error at true centres": "centers_depth_abs_rel",
    "depth error of matched boxes": "matched_depth_abs_rel",
    "recall of matched boxes": "matched_depth_recall",
}


def demo(
    directory: Annotated[Path, typer.Option(help="Folder of everything the demo writes.")] = Path(
        "runs/demo"
    ),
    recipe: Annotated[str, typer.Option(help="The recipe to train.")] = "demo",
    images: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Seen in training. Default: what two cores manage in eight minutes all in all, "
            f"{_IMAGES}, or {_IMAGES_IN_BFLOAT16} with matrix units for bfloat16.",
        ),
    ] = None,
) -> None:
    """Render a synthetic world, train on it with two Ray workers, evaluate, and show the result.

    Starts an S3 server and an MLflow server on this machine and stops them again. Killed in the
    middle it goes on where it was; a finished demo is trained anew under the next name.
    """
    from mono3d.config.data_sections import NuScenesData
    from mono3d.config.load import load_recipe

    console, clock = Console(stderr=True), StageClock()
    clock.enter("data and services")
    asked = load_recipe(recipe)
    if not isinstance(asked.data, NuScenesData):
        raise ConfigError(
            f"recipe {recipe}: data.kind={asked.data.kind}; the demo makes a nuScenes folder"
        )
    frames = math.ceil((images or _images_for(asked)) / asked.train.epochs)
    config = load_recipe(recipe, [f"cluster.storage={RUNS_URI}", f"train.epoch_frames={frames}"])
    root = Path(asked.data.root)
    console.print(f"rendering the synthetic world into {root}")
    with running_stack(meanwhile=lambda: _make_data(root, console)) as stack:
        clock.enter("start")
        console.print("S3 and MLflow are up")
        os.environ.update(stack.environment())
        summary = _train_and_report(config, directory, clock, recipe=recipe)
    clock.enter("end")
    summary["seconds"] = clock.rounded()
    path = directory / "summary.json"
    path.write_text(json.dumps(summary, indent=2) + "\n")
    _print(summary, path)


def _images_for(config: "RunConfig") -> int:
    import torch

    from mono3d.training.precision import autocast_dtype

    is_float32 = autocast_dtype(config.train.precision, torch.device("cpu")) is None
    return _IMAGES if is_float32 else _IMAGES_IN_BFLOAT16


class StageClock:
    """Seconds of each named stage; a stage ends where the next one begins."""

    def __init__(self) -> None:
        """Nothing has begun."""
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage: str | None = None
        self._since = time.perf_counter()

    def enter(self, stage: str) -> None:
        """Begin or go on with a stage."""
        now = time.perf_counter()
        if self._stage is not None:
            self.seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now

    def rounded(self) -> dict[str, float]:
        """All stages and their sum."""
        stages = {name: round(seconds, 1) for name, seconds in self.seconds.items()}
        return stages | {"total": round(sum(self.seconds.values()), 1)}


class _TimedDisplay:
    """The display of a run that tells training, evaluation and report apart."""

    def __init__(self, display: ProgressSink, clock: StageClock) -> None:
        self._display = display
        self._clock = clock

    def update(self, progress: Progress) -> None:
        self._display.update(progress)
        if progress.record is None:
            self._clock.enter("evaluation")
        elif (
            progress.step == progress.total_steps and "val/nuscenes_map" in progress.record.metrics
        ):
            self._clock.enter("report")
        else:
            self._clock.enter("training")

    def say(self, line: str) -> None:
        self._display.say(line)


def _make_data(root: Path, console: Console) -> None:
    from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes

    config = SyntheticConfig(
        image_size=(400, 224),
        train_scenes=_TRAIN_SCENES,
        val_scenes=_VAL_SCENES,
        samples_per_scene=_SAMPLES,
        seed=0,
    )
    render(
        lambda show: write_nuscenes(root, config, num_processes=2, on_progress=show),
        console=console,
    )


def _train_and_report(
    config: "RunConfig", directory: Path, clock: StageClock, *, recipe: str
) -> dict[str, Any]:
    """Untrained network, training, trained network: all on the same held-out scenes."""
    from mono3d.training.datasets import build_dataset
    from mono3d.training.progress_display import ProgressDisplay
    from mono3d.training.report import row_baseline_abs_rel
    from mono3d.training.tracked import train_tracked

    train_set, held_out = build_dataset(config, "train"), build_dataset(config, "val")
    name = _free_name(config)
    with (
        ThreadPoolExecutor(max_workers=1) as beside,
        ProgressDisplay(epochs=config.train.epochs, metric=config.checkpoint.metric) as display,
    ):
        baseline = beside.submit(  # while Ray starts
            row_baseline_abs_rel, train_set, held_out, len(config.data.class_names)
        )
        result, assessment = train_tracked(
            config,
            name=name,
            sink=_TimedDisplay(display, clock),
            figures=directory / "figures",
            recipe=Path(recipe).stem,
        )
    trained = assessment.metrics
    untrained = {k.removeprefix("val/"): v for k, v in result.initial_metrics.items()}
    images = config.train.epochs * (config.train.epoch_frames or len(train_set))
    return {
        "mAP": trained["nuscenes_map"],
        "car_ap": trained["nuscenes_car_ap"],
        "abs_rel": trained["centers_depth_abs_rel"],
        "untrained_mAP": untrained.get("nuscenes_map"),
        "untrained_car_ap": untrained.get("nuscenes_car_ap"),
        "untrained_abs_rel": untrained.get("centers_depth_abs_rel"),
        "row_baseline_abs_rel": baseline.result(),
        "table": {
            title: {"trained": trained.get(key), "untrained": untrained.get(key)}
            for title, key in _ROWS.items()
        },
        "held_out_samples": len({held_out.moment_of(i) for i in range(len(held_out))}),
        "images_seen": images,
        "images_per_s": round(images / clock.seconds["training"], 1),
        "run": name,
        "checkpoint_uri": result.best_checkpoint,
        "mlflow_run_id": result.run_id,
        "mlflow_tracking_uri": os.environ["MLFLOW_TRACKING_URI"],
        "figures": [str(path) for path in assessment.figures],
    }


def _free_name(config: "RunConfig") -> str:
    """demo, or demo-2, demo-3, ...: the first that is free or was killed, so that it goes on."""
    from mono3d.training.run_record import is_open_to, run_location

    names = ("demo" if number == 1 else f"demo-{number}" for number in itertools.count(1))
    return next(name for name in names if is_open_to(run_location(config, name), config))


def _print(summary: Mapping[str, Any], path: Path) -> None:
    console = Console()
    table = Table("on held-out scenes", "untrained", "trained", title="mono3d demo")
    for title, values in summary["table"].items():
        table.add_row(title, _number(values["untrained"]), _number(values["trained"]))
    table.add_row(
        "depth error of the image row alone", "", _number(summary["row_baseline_abs_rel"])
    )
    console.print(table)
    for figure in summary["figures"]:
        console.print(f"picture     {figure}", soft_wrap=True)
    console.print(f"checkpoint  {summary['checkpoint_uri']}", soft_wrap=True)
    console.print(f"MLflow run  {summary['mlflow_run_id']}")
    console.print(f"figures     {path}, {summary['seconds']['total']:.0f} s in all", soft_wrap=True)
    stages = ", ".join(f"{k} {v:.0f}" for k, v in summary["seconds"].items() if k != "total")
    console.print(f"seconds     {stages}; {summary['images_per_s']} images/s in training")
    console.print("look at it in MLflow:  .venv/bin/mono3d services up")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
