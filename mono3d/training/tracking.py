"""The record of a run in MLflow, from its beginning to its end."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mono3d.config.load import dump_yaml
from mono3d.config.schema import RunConfig
from mono3d.errors import ServiceAwayError
from mono3d.tracking.tracker import NullTracker, RunIdentity, Tracker

_logger = logging.getLogger(__name__)

_one_opens = threading.Lock()
"""Or a run that a dead process left could be reaped while a thread beside this one takes it up."""


@contextmanager
def tracked_run(config: RunConfig, identity: RunIdentity, *, folder: Path) -> Iterator[Tracker]:
    """The run's record, closed as FINISHED, FAILED or KILLED; what is not sent waits in a folder.

    Raises:
        ServiceError: MLFLOW_TRACKING_URI is set to something that is not an MLflow server.
    """
    tracker = start_tracker(config, identity, folder)
    try:
        yield tracker
    except (KeyboardInterrupt, SystemExit):
        tracker.close("KILLED")
        raise
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")


def start_tracker(
    config: RunConfig, identity: RunIdentity, folder: Path, *, close_timeout_s: float = 30.0
) -> Tracker:
    """The run's record in MLflow if MLFLOW_TRACKING_URI is set, else none.

    A server that does not answer stops nothing: what is due waits in `folder`.

    Args:
        config: The run.
        identity: Of its record.
        folder: On this machine, for what waits.
        close_timeout_s: Longest wait for the server at the end.

    Raises:
        ServiceError: What answers there is not an MLflow server.
    """
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not tracking_uri:
        return NullTracker()
    from mono3d.tracking.mlflow_runs import reap  # seconds to import
    from mono3d.tracking.mlflow_tracker import MlflowTracker
    from mono3d.tracking.provenance import is_process_alive

    with _one_opens:
        try:
            reap(tracking_uri, config.tracking.experiment, is_process_alive)
        except ServiceAwayError as error:
            _logger.warning("%s; metrics and files wait in %s", error, folder)
        tracker = MlflowTracker.start(
            identity,
            experiment=config.tracking.experiment,
            tracking_uri=tracking_uri,
            spool=folder / "mlflow.jsonl",
            close_timeout_s=close_timeout_s,
        )
    tracker.log_json({"yaml": dump_yaml(config)}, "config", "recipe.json")
    return tracker
