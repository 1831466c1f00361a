"""One worker of a run on Ray: builds the parts, resumes, trains, and reports.

Every rank reports at the same steps, as Ray wants it; rank 0 attaches the checkpoint. Workers know
the store of the checkpoints and nothing else: metrics go to a mailbox.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, chdir, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.train import Checkpoint, CheckpointConsistencyMode
from ray.train.collective import broadcast_from_rank_zero

from mono3d.config.load import parse
from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import CheckpointConfig
from mono3d.storage.location import join, upload_directory
from mono3d.storage.patience import patiently
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.spool import Spool
from mono3d.training.batch_trial import training_fits
from mono3d.training.checkpoint import (
    FIGURES,
    METRICS,
    checkpoint_name,
    first_whole,
    load_checkpoint,
    save_checkpoint,
)
from mono3d.training.checkpoint_files import MANIFEST
from mono3d.training.distributed import distribute
from mono3d.training.initial_weights import start_from
from mono3d.training.loop import RunObserver, fit
from mono3d.training.mailbox import Message, Question
from mono3d.training.parts import Place, RunParts, build_parts, start_process
from mono3d.training.profiling import record_profile
from mono3d.training.progress import Progress
from mono3d.training.recorder import RunRecorder
from mono3d.training.retention import score
from mono3d.training.run_gauges import RunGauges
from mono3d.training.run_record import CHECKPOINTS, initial_checkpoint
from mono3d.training.state import TrainState
from mono3d.training.worker_settings import SCORE, WorkerSettings

_ASK_EVERY_S = 0.05


def train_worker(settings: WorkerSettings) -> None:
    """Train one rank's part, from the last whole checkpoint that Ray knows."""
    _work(settings, _train)


def profile_worker(settings: WorkerSettings, steps: int) -> None:
    """Take one rank's part in the first steps of a run, which rank 0 profiles."""
    _work(settings, partial(_profile, steps=steps))


def _work(
    settings: WorkerSettings, work: Callable[[WorkerSettings, RunConfig, Place], None]
) -> None:
    """Do a rank's work, where relative paths mean what they mean to the driver."""
    with _working_directory(settings.directory), tempfile.TemporaryDirectory() as folder:
        config = parse(settings.config, source="run")
        context = ray.train.get_context()
        place = Place(
            rank=context.get_world_rank(),
            world_size=context.get_world_size(),
            device=ray.train.torch.get_device(),
            figures=Path(folder) / FIGURES,
        )

        def say(line: str) -> None:
            settings.mailbox.put.remote(f"worker {place.rank}: {line}")

        with training_fits(config, place, settings.build or build_parts, say):
            work(settings, config, place)


def _train(settings: WorkerSettings, config: RunConfig, place: Place) -> None:
    parts = _joined_parts(settings, config, place)
    worker = _Worker(settings, parts, config.checkpoint, place)
    evaluated = worker.restore()
    observer = worker.observer() if place.rank == 0 else _Follower()
    fit(
        parts.state,
        parts.loader,
        parts.plan,
        evaluate=parts.evaluate,
        observer=observer,
        goes_on=partial(_goes_on, settings.mailbox, place) if settings.is_judged else None,
        evaluated=evaluated,
    )


def _goes_on(mailbox: Any, place: Place, state: TrainState, metrics: Mapping[str, float]) -> bool:
    """The answer of the process that started the run, for all ranks."""
    answer = None
    if place.rank == 0:
        mailbox.put.remote(Question(step=state.step, epoch=state.epoch, metrics=metrics))
        while (answer := ray.get(mailbox.answered.remote(state.step))) is None:
            time.sleep(_ASK_EVERY_S)
    if place.world_size > 1:
        answer = broadcast_from_rank_zero(answer)
    return bool(answer)


def _profile(settings: WorkerSettings, config: RunConfig, place: Place, steps: int) -> None:
    parts = _joined_parts(settings, config, place)
    record_profile(parts, place, steps=steps, location=settings.location)


def _joined_parts(settings: WorkerSettings, config: RunConfig, place: Place) -> RunParts:
    """Parts of a rank that trains with all others."""
    parts = start_process(config, place, settings.build or build_parts)
    distribute(parts.state, parts.loader)
    return parts


def _working_directory(directory: str) -> AbstractContextManager[None]:
    """Ray starts workers elsewhere; on another machine the folder need not exist."""
    return chdir(directory) if Path(directory).is_dir() else nullcontext()


class _Follower:
    """What other ranks do: meet rank 0 at every checkpoint."""

    def on_records(self, state: TrainState, record: MetricRecord) -> None:
        pass

    def on_evaluate(self, state: TrainState) -> None:
        pass

    def on_save(
        self, state: TrainState, metrics: Mapping[str, float], *, epoch_ended: bool
    ) -> None:
        ray.train.report({})


class _Worker:
    """Rank 0's dealings with checkpoints and mailbox; other ranks only restore."""

    def __init__(
        self, settings: WorkerSettings, parts: RunParts, config: CheckpointConfig, place: Place
    ) -> None:
        assert place.figures is not None
        self._location = settings.location
        self._mailbox = settings.mailbox
        self._parts = parts
        self._config = config
        self._figures = place.figures
        self._spool = place.figures.with_name(METRICS)
        self._known = _reported_names()
        self._gauges = RunGauges(settings.location.rpartition("/")[2])

    def restore(self) -> Mapping[str, float]:
        """Load the newest whole checkpoint, the same one on all ranks; returns its metrics.

        Without one, take over what fits of the checkpoint that the run is to start from.
        """
        latest = initial = None
        is_first = ray.train.get_context().get_world_rank() == 0
        if is_first:
            folder = join(self._location, CHECKPOINTS)
            newest_first = [join(folder, name) for name in sorted(self._known, reverse=True)]
            latest = patiently(lambda: first_whole(newest_first, self.say), self.say)
            initial = initial_checkpoint(self._location) if latest is None else None
        latest, initial = broadcast_from_rank_zero((latest, initial))
        parts = self._parts
        if latest is not None:
            load = partial(
                load_checkpoint, latest, parts.state, spool=self._spool, data=parts.facts.data
            )
            return patiently(load, self.say).metrics
        if initial is not None:
            carried = start_from(initial, parts.state, parts.facts)
            if is_first:
                self.say(str(carried))
        return {}

    def observer(self) -> RunObserver:
        """Rank 0's; repeats what was recorded before, since the driver may have missed it."""
        state = self._parts.state
        recorder = RunRecorder(
            Spool(self._spool),
            total_steps=self._parts.total_steps,
            emit=self._show,
            keep=self._keep,
        )
        recorder.replay(state)
        self.say(self._parts.headline)
        if state.step:
            self.say(f"resumed at step {state.step}")
        return recorder

    def say(self, line: str) -> None:
        """A line for the user."""
        self._post(line)

    def _show(self, progress: Progress) -> None:
        self._gauges.show(progress)
        self._post(progress)

    def _post(self, message: Message) -> None:
        self._mailbox.put.remote(message)

    def _keep(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        name = checkpoint_name(state.step)
        while name in self._known:  # a damaged one that was passed over still has the name
            name += "-again"
        with tempfile.TemporaryDirectory() as folder, self._gauges.checkpoint():
            directory = Path(folder) / name
            save_checkpoint(
                state,
                directory,
                facts=self._parts.facts,
                metrics=metrics,
                spool=self._spool,
                figures=self._figures if metrics else None,
            )
            ray.train.report(
                {SCORE: score(metrics, self._config), "step": state.step},
                checkpoint=Checkpoint.from_directory(directory),
                checkpoint_dir_name=f"{CHECKPOINTS}/{name}",
                checkpoint_upload_fn=self._upload,
            )

    def _upload(self, checkpoint: Checkpoint, name: str) -> Checkpoint:
        """In place of Ray's own upload: each file is verified, the manifest comes last."""
        target = join(self._location, name)
        upload_directory(Path(checkpoint.path), target, last=MANIFEST, say=self.say)
        storage = ray.train.get_context().get_storage()
        return Checkpoint(storage.build_checkpoint_path_from_name(name), storage.storage_filesystem)


def _reported_names() -> set[str]:
    """Names of the checkpoints in Ray's snapshot: an upload that it does not name never counts."""
    reported = ray.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)
    return {Path(entry.checkpoint.path).name for entry in reported}
