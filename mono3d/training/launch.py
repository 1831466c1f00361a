"""A run on Ray Train, from its config to its result."""

import itertools
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.exceptions import RayError
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import TrainConfig
from mono3d.errors import CheckpointError, Mono3dError, ServiceError, StorageAwayError, StorageError
from mono3d.storage.location import check_access, join
from mono3d.storage.patience import patiently
from mono3d.tracking.spool import Spool
from mono3d.tracking.tracker import NullTracker, Tracker
from mono3d.training.checkpoint import METRICS, first_whole, read_metadata
from mono3d.training.checkpoint_files import read_verified, verified_copy
from mono3d.training.failure_callback import FailureCallback, first_line, root_of, understood
from mono3d.training.mailbox import Mailbox, Message, Question
from mono3d.training.progress import NoDisplay, Progress, ProgressSink
from mono3d.training.ray_session import ray_session, shortage
from mono3d.training.run_record import (
    CHECKPOINTS,
    RunResult,
    close_run,
    initial_metrics,
    open_run,
    run_location,
)
from mono3d.training.step_profile import PROFILE
from mono3d.training.teachers import with_teacher_found
from mono3d.training.worker_settings import SCORE, WorkerSettings

if TYPE_CHECKING:
    from mono3d.training.parts import BuildParts

Judge = Callable[[Question], bool]
"""Whether a run goes on."""

_AWAY = re.compile(
    "AWS Error (NETWORK_CONNECTION|SERVICE_UNAVAILABLE|SLOW_DOWN|INTERNAL_FAILURE|REQUEST_TIMEOUT|"
    r"UNKNOWN \(HTTP status 5\d\d\))"
)
"""Of PyArrow, by which Ray writes."""
_LOOK_EVERY_S = 0.1
_CONTROLLER_FAILURES = 3
"""Without a limit a cluster that is too small is waited for in vain, for ever."""


def launch(
    config: RunConfig,
    *,
    name: str,
    tracker: Tracker | None = None,
    sink: ProgressSink | None = None,
    judge: Judge | None = None,
    build: "BuildParts | None" = None,
) -> RunResult:
    """Train on a Ray cluster, from the run's last checkpoint if there is one.

    Workers that die are started again and go on from the last checkpoint, up to
    `cluster.max_failures` times. If this process dies, the same call again goes on. A run that the
    judge stops ends as any other does, and is not over: the same call without a judge goes on.

    Args:
        config: The run.
        name: Names the run's folder in `cluster.storage`; the same name is the same run.
        tracker: Where metrics go; it is not closed.
        sink: Who watches.
        judge: Asked after each evaluation but the last whether the run goes on; workers wait.
        build: How a worker comes to its parts; None is `build_parts`.

    Raises:
        ConfigError: The name has another config, or a worker refused the config.
        ServiceError: Ray cannot be used, or the run failed more often than is allowed.
        Mono3dError: What else a worker found that the user can fix.
    """
    tracker, sink = tracker or NullTracker(), sink or NoDisplay()
    location = run_location(config, name)
    config = with_teacher_found(config, location)
    finished = open_run(location, config)
    if finished is not None:
        sink.say(f"run {name} is finished: {finished.last_checkpoint}")
        if judge is not None:
            _show_again(finished, tracker, sink)
        return finished
    office = _Office(tracker, sink, judge)
    outcome = _train_despite_outages(config, location, build, office)
    read = partial(_to_result, outcome, name, location, tracker, sink)
    result = patiently(read, sink.say)
    return (
        result if office.has_stopped else patiently(partial(close_run, location, result), sink.say)
    )


def launch_profile(
    config: RunConfig,
    *,
    name: str,
    steps: int,
    sink: ProgressSink | None = None,
    build: "BuildParts | None" = None,
) -> str:
    """Profile the first steps of a run on a Ray cluster; the run itself is left as it is.

    Args:
        config: The run.
        name: Of the run, in whose folder the profile is written.
        steps: To profile.
        sink: Who watches.
        build: How a worker comes to its parts; None is `build_parts`.

    Returns:
        Where the profile is.

    Raises:
        Mono3dError: As `launch` does.
    """
    config = with_teacher_found(config)
    location = join(run_location(config, name), PROFILE)
    work = partial(_profile, steps=steps)
    _work_on_ray(config, location, work, build, _Office(NullTracker(), sink or NoDisplay()))
    return location


class _RayCutOffError(StorageAwayError):
    """Ray's controller could not write to the store, which ends what it controls at once."""


def _train_despite_outages(
    config: RunConfig, location: str, build: "BuildParts | None", office: "_Office"
) -> ray.train.Result:
    """Begin again, from the last checkpoint, when the store is back; as often as workers may die.

    Workers wait for a store that is away, Ray's controller does not.
    """
    most = config.cluster.max_failures
    for failures in itertools.count():
        try:
            return _work_on_ray(config, location, _train, build, office)
        except _RayCutOffError as error:
            if failures == most:  # never at -1, which is no limit
                raise
            office.sink.say(f"{error}; beginning again from the last checkpoint")
            patiently(partial(check_access, location), office.sink.say)
    raise AssertionError


def _work_on_ray(
    config: RunConfig,
    location: str,
    work: Callable[[WorkerSettings], None],
    build: "BuildParts | None",
    office: "_Office",
) -> ray.train.Result:
    """Have workers of a run do something, with `location` as their folder and Ray's."""
    with ray_session(config.cluster, has_dashboard=False):
        lacking = shortage(config.cluster)
        if lacking is not None:
            office.sink.say(f"waiting for the cluster to grow: {lacking}")
        # Beside this process: on another node it could die alone, and the run fall silent. A soft
        # affinity does not keep it here: Ray was seen to place it on the other of two nodes.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()
        settings = WorkerSettings(
            config=config.model_dump(mode="json"),
            location=location,
            directory=str(Path.cwd()),
            mailbox=mailbox,
            build=build,
            is_judged=office.judge is not None,
        )
        trainer = build_trainer(config, settings, work)
        outcome = office.wait_for(trainer, mailbox)
    if isinstance(outcome, Exception):
        raise _explained(outcome, config.train) from outcome
    return outcome


def build_trainer(
    config: RunConfig, settings: WorkerSettings, work: Callable[[WorkerSettings], None]
) -> TorchTrainer:
    """Ray's trainer for a run; its storage is the folder that the run's own files are in."""
    storage, _, name = settings.location.rpartition("/")
    cluster = config.cluster
    resources = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    return TorchTrainer(
        lambda: work(settings),
        scaling_config=ray.train.ScalingConfig(
            num_workers=cluster.workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage,
            failure_config=ray.train.FailureConfig(
                max_failures=cluster.max_failures, controller_failure_limit=_CONTROLLER_FAILURES
            ),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=config.checkpoint.keep,
                checkpoint_score_attribute=SCORE,
                checkpoint_score_order="max",
            ),
            callbacks=[FailureCallback(settings.mailbox, config.train)],
        ),
    )


def _show_again(finished: RunResult, tracker: Tracker, sink: ProgressSink) -> None:
    """What a finished run recorded: who had it launched may have died before it heard the end."""
    try:
        content = read_verified(finished.last_checkpoint, METRICS)
    except (CheckpointError, StorageError):  # it may be gone by now
        return
    with TemporaryDirectory() as folder:
        spool = Path(folder) / METRICS
        spool.write_bytes(content)
        records = Spool(spool).read()
    tracker.log_metrics(records)
    for record in records:
        sink.update(Progress(step=record.step, total_steps=finished.steps, epoch=0, record=record))


def _train(settings: WorkerSettings) -> None:
    """On a worker, which alone imports networks."""
    from mono3d.training.worker import train_worker

    train_worker(settings)


def _profile(settings: WorkerSettings, steps: int) -> None:
    from mono3d.training.worker import profile_worker

    profile_worker(settings, steps)


class _Office:
    """Carries messages from the mailbox to tracker, display and judge while a trainer runs."""

    def __init__(self, tracker: Tracker, sink: ProgressSink, judge: Judge | None = None) -> None:
        self.sink = sink
        self.judge = judge
        self.has_stopped = False
        """Whether the judge has ended the run."""
        self._tracker = tracker

    def wait_for(self, trainer: TorchTrainer, mailbox: Any) -> ray.train.Result | Exception:
        """Fit in a thread, so that an interruption arrives here and the mailbox is emptied."""
        outcome: list[ray.train.Result | Exception] = []
        thread = threading.Thread(target=_fit, args=(trainer, outcome), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK_EVERY_S)
            self._empty(mailbox)
        return outcome[0]

    def _empty(self, mailbox: Any) -> None:
        try:
            messages: list[Message] = ray.get(mailbox.take.remote())
        except RayError:  # the run goes on without a display; its metrics are in the checkpoint
            time.sleep(_LOOK_EVERY_S)
            return
        steps = [message for message in messages if isinstance(message, Progress)]
        self._tracker.log_metrics([step.record for step in steps if step.record is not None])
        for message in messages:
            match message:
                case str():
                    self.sink.say(message)
                case Progress():
                    self.sink.update(message)
                case Question():
                    goes_on = self.judge is None or self.judge(message)
                    self.has_stopped |= not goes_on
                    mailbox.answer.remote(message.step, goes_on)


def _fit(trainer: TorchTrainer, outcome: list[ray.train.Result | Exception]) -> None:
    try:
        outcome.append(trainer.fit())
    except Exception as error:
        outcome.append(error)


def _explained(error: Exception, train: TrainConfig) -> Mono3dError:
    """The user's error behind Ray's, or one that says what failed."""
    failures = getattr(error, "worker_failures", {})
    reason = next(iter(failures.values()), getattr(error, "controller_failure", error))
    reason = understood(root_of(reason), train)
    if isinstance(reason, Mono3dError):
        return reason
    if not failures and _AWAY.search(str(reason)):
        return _RayCutOffError(f"the store went away from Ray's controller ({first_line(reason)})")
    failure = ServiceError(f"training failed: {first_line(reason)}")
    failure.add_note("the same command goes on from the last checkpoint")
    return failure


def _to_result(
    outcome: ray.train.Result, name: str, location: str, tracker: Tracker, sink: ProgressSink
) -> RunResult:
    """Read the last checkpoint; metrics that the mailbox lost are logged from it."""
    checkpoints = join(location, CHECKPOINTS)
    last = join(checkpoints, Path(outcome.checkpoint.path).name)
    by_score = sorted(outcome.best_checkpoints, key=lambda kept: (kept[1][SCORE], kept[1]["step"]))
    best_first = [join(checkpoints, Path(kept.path).name) for kept, _ in reversed(by_score)]
    with verified_copy(last) as directory:
        records = Spool(directory / METRICS).read()
    tracker.log_metrics(records)
    metadata = read_metadata(last)
    return RunResult(
        name=name,
        steps=metadata.step,
        metrics=metadata.metrics,
        best_checkpoint=first_whole(best_first, sink.say) or last,
        last_checkpoint=last,
        run_id=tracker.run_id,
        initial_metrics=initial_metrics(records),
    )
