"""`mono3d demo`: the main job on a machine with two cores and nothing else."""

import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.services.address import RUNS_URI
from mono3d.services.stack import running_stack

_TRAIN_SCENES, _VAL_SCENES, _SAMPLES = 120, 26, 4
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
) -> None:
    """Render a synthetic world, train on it with two Ray workers, evaluate, and show the result.

    Starts an S3 server and an MLflow server on this machine and stops them again. Killed in the
    middle it goes on where it was; a finished demo is trained anew under the next name.
    """
    console, clock = Console(stderr=True), StageClock()
    with clock.stage("data"):
        config = load_recipe(recipe, [f"cluster.storage={RUNS_URI}"])
        console.print(f"rendering the synthetic world into {config.data.root}")
        _make_data(Path(config.data.root), console)
    with running_stack() as stack:
        clock.add("services", stack_seconds := clock.lap())
        console.print(f"S3 and MLflow are up ({stack_seconds:.0f} s)")
        os.environ.update(stack.environment())
        summary = _train_and_report(config, directory, clock, console)
    summary["seconds"] = clock.seconds | {"total": clock.total()}
    path = directory / "summary.json"
    path.write_text(json.dumps(summary, indent=2) + "\n")
    _print(summary, path)


class StageClock:
    """Seconds of each named stage."""

    def __init__(self) -> None:
        """Start."""
        self.seconds: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        self.lap()
        yield
        self.add(name, self.lap())

    def add(self, name: str, seconds: float) -> None:
        """Note a stage."""
        self.seconds[name] = round(seconds, 1)

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed

    def total(self) -> float:
        """Seconds since the start."""
        return round(time.perf_counter() - self._start, 1)


def _make_data(root: Path, console: Console) -> None:
    from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes

    config = SyntheticConfig(
        image_size=(400, 224),
        train_scenes=_TRAIN_SCENES,
        val_scenes=_VAL_SCENES,
        samples_per_scene=_SAMPLES,
        seed=0,
    )
    with Progress(console=console) as bar:
        task = bar.add_task("rendering scenes", total=_TRAIN_SCENES + _VAL_SCENES)
        write_nuscenes(
            root,
            config,
            num_processes=2,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _train_and_report(
    config: RunConfig, directory: Path, clock: StageClock, console: Console
) -> dict[str, Any]:
    """Untrained network, training, trained network: all on the same held-out scenes."""
    from mono3d.training.assembly import build_dataset, build_model
    from mono3d.training.evaluate import evaluate_split
    from mono3d.training.progress_display import ProgressDisplay
    from mono3d.training.report import row_baseline_abs_rel
    from mono3d.training.tracked import train_tracked

    with clock.stage("untrained"):
        console.print("measuring the untrained network on the held-out scenes")
        train_set, held_out = build_dataset(config, "train"), build_dataset(config, "val")
        untrained = evaluate_split(config, build_model(config), None, held_out).metrics
        row = row_baseline_abs_rel(train_set, held_out, len(config.data.class_names))
    figures = directory / "figures"
    with (
        clock.stage("training"),
        ProgressDisplay(epochs=config.train.epochs, metric=config.checkpoint.metric) as sink,
    ):
        name = _free_name(config)
        result, assessment = train_tracked(config, name=name, sink=sink, figures=figures)
    trained = assessment.metrics
    return {
        "mAP": trained["nuscenes_map"],
        "car_ap": trained["nuscenes_car_ap"],
        "abs_rel": trained["centers_depth_abs_rel"],
        "untrained_mAP": untrained["nuscenes_map"],
        "untrained_car_ap": untrained["nuscenes_car_ap"],
        "untrained_abs_rel": untrained["centers_depth_abs_rel"],
        "row_baseline_abs_rel": row,
        "table": {
            title: {"trained": trained.get(key), "untrained": untrained.get(key)}
            for title, key in _ROWS.items()
        },
        "held_out_samples": len(held_out.sample_tokens),
        "images_seen": config.train.epochs * (config.train.epoch_frames or len(train_set)),
        "run": name,
        "checkpoint_uri": result.best_checkpoint,
        "mlflow_run_id": result.run_id,
        "mlflow_tracking_uri": os.environ["MLFLOW_TRACKING_URI"],
        "figures": [str(path) for path in assessment.figures],
    }


def _free_name(config: RunConfig) -> str:
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
    console.print("look at it in MLflow:  .venv/bin/mono3d services up")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
