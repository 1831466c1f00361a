"""A search on Ray Tune: which asks for trials, places them, and carries their reports here.

Tune keeps nothing that counts. Its own files lie in a folder that is thrown away, it is never
restored: after a kill a new one is filled from the database, where unfinished trials come first.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayActorError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from mono3d.errors import Mono3dError, ServiceError
from mono3d.search.conductor import Conductor, SearchDisplay
from mono3d.search.record import Proposal, SearchRecord
from mono3d.search.trial import MESSAGE, TrialActor, TrialEnd, TrialOrder
from mono3d.tracking.shipper import root_cause
from mono3d.tracking.tracker import NullTracker, RunIdentity, Tracker
from mono3d.training.failure_callback import first_line
from mono3d.training.ray_session import places, ray_session
from mono3d.training.run_record import RUNS_FOLDER
from mono3d.training.tracking import start_tracker

_logger = logging.getLogger(__name__)

_ORDER = "order"
_ACTOR_BYTES = 700 * 1024**2
"""What an actor's imports take: Ray places it by that, not by a CPU, which its workers need."""
_CLOSE_TIMEOUT_S = 10.0
"""For MLflow at the end of a trial, while the others wait; what it does not take is sent later."""
_ENDLESS = 1_000_000
"""Trials that Tune may begin; the budget is ours."""
_SETTINGS = {
    # Results and tables of Tune's own; ours are in the database and in MLflow.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def search_on_ray(
    record: SearchRecord,
    display: SearchDisplay,
    *,
    parent: Tracker,
    parallel: int | None = None,
) -> None:
    """Run trials until the budget is spent, as many at a time as there is room for.

    Args:
        record: Prepared; the recipe's `cluster` says how large a trial is.
        display: Who watches.
        parent: The search's own record in MLflow.
        parallel: Trials at a time; None is what fits the cluster as it is now.

    Raises:
        Mono3dError: The search cannot go on.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("ray.tune.execution.tune_controller", "ray.tune.tune"):
        # Of an actor that died, pages; the display says it in a line.
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def start(proposal: Proposal, identity: RunIdentity) -> Tracker:
        folder = RUNS_FOLDER / identity.name
        try:
            return start_tracker(
                proposal.configs[0], identity, folder, close_timeout_s=_CLOSE_TIMEOUT_S
            )
        except ServiceError as error:  # the search itself has begun: it goes on without
            display.say(f"trial {proposal.number} is not recorded now: {error}")
            return _Unheard()

    conductor = Conductor(record, display, start, parent=parent)
    with (
        ray_session(record.config.cluster, has_dashboard=True),
        tempfile.TemporaryDirectory(prefix="mono3d-tune-") as folder,
    ):
        room = places(record.config.cluster, memory_bytes=_ACTOR_BYTES)
        if parallel is not None and parallel > room:
            display.say(f"--parallel {parallel}: there is room for {room} at a time now")
        with _ending_the_search(conductor):
            conductor.settle()
        tuner = tune.Tuner(
            tune.with_resources(TrialActor, tune.PlacementGroupFactory([{"memory": _ACTOR_BYTES}])),
            tune_config=tune.TuneConfig(
                search_alg=_Proposals(conductor),
                scheduler=_Verdicts(conductor),
                num_samples=_ENDLESS,
                max_concurrent_trials=parallel or room,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=record.name,
                storage_path=folder,
                verbose=0,
                # Tune would blame a trial that was given the dead actor of another one.
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
            with _ending_the_search(conductor):
                conductor.settle()
        except tune.TuneError as error:
            raise ServiceError(f"Ray Tune: {str(error).strip().splitlines()[0]}") from error
        finally:
            with _ending_the_search(conductor):
                conductor.abandon()
    if conductor.failure is not None:
        raise conductor.failure


@contextmanager
def _ending_the_search(conductor: Conductor) -> Iterator[None]:
    """Tune would show a traceback, or take the trial's end for a failure and run it again."""
    try:
        yield
    except Mono3dError as error:
        conductor.failure = conductor.failure or error
    except Exception as error:
        _logger.warning("the search ends", exc_info=True)
        conductor.failure = conductor.failure or ServiceError(
            f"{type(error).__name__}: {root_cause(error)}; --resume goes on with the search"
        )


class _Unheard(NullTracker):
    """Of a trial whose server is there and not well: the end is owed."""

    def close(self, status: str) -> bool:
        """Not now."""
        return False


def _reason_of(error: Exception | None) -> str:
    """Why an actor is no more, in a line."""
    if error is None or isinstance(error, RayActorError):
        return "its process died"
    return first_line(getattr(error, "cause", None) or error)


class _NeverStored:
    """Tune pickles what it was given, again and again, into its folder; of ours, nothing.

    What hangs on a conductor knows the database's password.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Proposals(_NeverStored, Searcher):  # type: ignore[misc]
    """Tune's way of asking for the next trial."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__(metric=MESSAGE, mode="min")
        self._conductor = conductor

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The order of a trial; FINISHED when there shall be no further one."""
        proposal = None
        with _ending_the_search(self._conductor):
            proposal = self._conductor.begin()
        if self._conductor.is_over:
            return str(Searcher.FINISHED)
        if proposal is None:
            return None  # Tune asks again: a trial on its way may be put back
        trees = [config.model_dump(mode="json") for config in proposal.configs]
        return {
            _ORDER: TrialOrder(
                number=proposal.number,
                runs=list(zip(proposal.run_names, trees, strict=True)),
                directory=str(Path.cwd()),
            )
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: `_Verdicts` hears of ends and errors."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is known is in the database."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _Verdicts(_NeverStored, FIFOScheduler):  # type: ignore[misc]
    """Tune's way of asking whether a trial goes on."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """A report."""
        goes_on = False
        with _ending_the_search(self._conductor):
            goes_on = self._conductor.evaluated(result[MESSAGE])
        return str(self.CONTINUE if goes_on else self.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The actor has died, or could not do what an actor does."""
        error = trial.get_pickled_error()
        with _ending_the_search(self._conductor):
            self._conductor.died(trial.config[_ORDER].number, _reason_of(error))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """The end, or the echo of a stop."""
        message = result[MESSAGE]
        if isinstance(message, TrialEnd):
            with _ending_the_search(self._conductor):
                self._conductor.ended(message)
