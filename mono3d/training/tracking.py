"""The MLflow record of a run, kept by the process that starts it; none without a server."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mono3d.config.load import dump_yaml, fingerprint, flatten
from mono3d.config.schema import RunConfig
from mono3d.tracking.tracker import NullTracker, RunIdentity, Tracker
from mono3d.training.run_record import run_location

_SPOOLS = Path("runs")


@contextmanager
def tracked_run(
    config: RunConfig, name: str, *, parent_run_id: str | None = None
) -> Iterator[Tracker]:
    """A tracker for the time of a run: MLflow's where MLFLOW_TRACKING_URI is set.

    The run ends as FINISHED, as KILLED after an interruption, as FAILED after an error. What the
    server could not take waits in `runs/<name>/mlflow` and is sent when the run is started again.

    Args:
        config: Its values become params, and the whole an artifact.
        name: Of the run; the same name finds the same record again.
        parent_run_id: Of the study that the run belongs to.
    """
    tracker = _start(config, name, parent_run_id)
    try:
        yield tracker
    except KeyboardInterrupt:
        tracker.close("KILLED")
        raise
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")


def _start(config: RunConfig, name: str, parent_run_id: str | None) -> Tracker:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return NullTracker()
    from mono3d.tracking.mlflow_tracker import MlflowTracker

    location = run_location(config, name)
    tracker = MlflowTracker.start(
        RunIdentity(
            name=name,
            params=flatten(config),
            tags={"mono3d.fingerprint": fingerprint(config), "mono3d.location": location},
            parent_run_id=parent_run_id,
        ),
        experiment=config.tracking.experiment,
        tracking_uri=uri,
        spool=_SPOOLS / name / "mlflow" / "metrics.jsonl",
    )
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "config.yaml"
        recipe.write_text(dump_yaml(config))
        tracker.log_artifact(recipe, "config")
    return tracker
