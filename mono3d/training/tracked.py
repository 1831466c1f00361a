"""A run on Ray with its record in MLflow: what `mono3d train` does."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mono3d.config.load import dump_yaml, fingerprint, flatten
from mono3d.config.schema import RunConfig
from mono3d.errors import ServiceAwayError
from mono3d.tracking.tracker import NullTracker, RunIdentity, Tracker
from mono3d.training.assembly import SPLITS, build_dataset
from mono3d.training.assess import Assessment, assess_checkpoint, record_assessment
from mono3d.training.launch import launch
from mono3d.training.progress import ProgressSink
from mono3d.training.run_record import RunResult

_logger = logging.getLogger(__name__)

RUNS_FOLDER = Path("runs")
"""Where a driver keeps what it has not shipped yet."""


def train_tracked(
    config: RunConfig, *, name: str, sink: ProgressSink, figures: Path | None = None
) -> tuple[RunResult, Assessment]:
    """Train on Ray, then measure, draw and record the best checkpoint.

    Args:
        config: The run.
        name: Of the run, on storage and in MLflow.
        sink: Who watches.
        figures: Folder for the pictures; None keeps them in MLflow only.

    Raises:
        Mono3dError: As `launch` does; the run's record then says FAILED.
    """
    with tracked_run(config, name) as tracker:
        result = launch(config, name=name, tracker=tracker, sink=sink)
        sink.say(f"measuring {result.best_checkpoint}")
        with TemporaryDirectory() as scratch:
            folder = figures or Path(scratch)
            assessment = assess_checkpoint(result.best_checkpoint, [], folder)
            record_assessment(assessment, tracker)
        tracker.log_checkpoint(result.best_checkpoint, {"run": name, "run_steps": result.steps})
    return result, assessment


@contextmanager
def tracked_run(config: RunConfig, name: str) -> Iterator[Tracker]:
    """The run's record, closed as FINISHED, FAILED or KILLED.

    Raises:
        ServiceError: MLFLOW_TRACKING_URI is set to something that is not an MLflow server.
    """
    tracker = start_tracker(config, name)
    try:
        yield tracker
    except KeyboardInterrupt:
        tracker.close("KILLED")
        raise
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")


def start_tracker(config: RunConfig, name: str) -> Tracker:
    """The run's record in MLflow if MLFLOW_TRACKING_URI is set, else none.

    A server that does not answer stops nothing: what is due waits beside the run.

    Raises:
        ServiceError: What answers there is not an MLflow server.
    """
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not tracking_uri:
        return NullTracker()
    from mono3d.tracking.mlflow_runs import reap  # seconds to import
    from mono3d.tracking.mlflow_tracker import MlflowTracker
    from mono3d.tracking.provenance import is_process_alive

    try:
        reap(tracking_uri, config.tracking.experiment, is_process_alive)
    except ServiceAwayError as error:
        _logger.warning("%s; metrics and files wait in %s", error, RUNS_FOLDER / name)
    identity = RunIdentity(
        name=name, params=flatten(config), tags={"mono3d.fingerprint": fingerprint(config)}
    )
    tracker = MlflowTracker.start(
        identity,
        experiment=config.tracking.experiment,
        tracking_uri=tracking_uri,
        spool=RUNS_FOLDER / name / "mlflow.jsonl",
    )
    tracker.log_json({"yaml": dump_yaml(config)}, "config", "recipe.json")
    for context in SPLITS:
        dataset = build_dataset(config, context)
        split = config.data.train_split if context == "train" else config.data.val_split
        tracker.log_dataset(
            name=f"{config.data.version}/{split}",
            digest=dataset.fingerprint[:16],
            source=str(Path(config.data.root).resolve()),
            context=context,
        )
    return tracker
