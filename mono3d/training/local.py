"""A run in this process alone: no Ray, no MLflow, no S3. The same steps, files and metrics."""

from collections.abc import Mapping
from pathlib import Path

import torch

from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import CheckpointConfig
from mono3d.errors import CheckpointError, ConfigError
from mono3d.storage.location import delete_directory, is_s3
from mono3d.tracking.spool import Spool
from mono3d.training.batch_trial import training_fits
from mono3d.training.checkpoint import (
    FIGURES,
    METRICS,
    RunFacts,
    checkpoint_name,
    first_whole,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
)
from mono3d.training.initial_weights import start_from
from mono3d.training.loop import fit
from mono3d.training.parts import BuildParts, Place, RunParts, build_parts, start_process
from mono3d.training.progress import NoDisplay, ProgressSink
from mono3d.training.recorder import RunRecorder
from mono3d.training.retention import Candidate, ranked, score, to_delete
from mono3d.training.run_record import (
    CHECKPOINTS,
    RunResult,
    close_run,
    initial_checkpoint,
    initial_metrics,
    open_run,
    run_location,
)
from mono3d.training.state import TrainState
from mono3d.training.teachers import with_teacher_found


def train_locally(
    config: RunConfig,
    *,
    name: str,
    sink: ProgressSink | None = None,
    build: BuildParts = build_parts,
) -> RunResult:
    """Train in this process, from the run's last checkpoint if there is one.

    Args:
        config: The run. `cluster.workers` is not looked at: there is one.
        name: The run's folder in `cluster.storage`; the same name goes on with the same run.
        sink: Who watches.
        build: How the parts come about.

    Raises:
        ConfigError: `cluster.storage` is not on this machine, or the name has another config.
        Mono3dError: As building, loading and saving do.
    """
    sink, folder = sink or NoDisplay(), local_folder(config, name)
    config = with_teacher_found(config, str(folder))
    finished = open_run(str(folder), config)
    if finished is not None:
        sink.say(f"run {name} is finished: {finished.last_checkpoint}")
        return finished
    place = Place(device=best_device(), figures=folder / FIGURES)
    with training_fits(config, place, build, sink.say):
        keeper = _train(config, folder, start_process(config, place, build), sink)
    return close_run(str(folder), keeper.result(name))


def _train(config: RunConfig, folder: Path, parts: RunParts, sink: ProgressSink) -> "LocalKeeper":
    sink.say(parts.headline)
    keeper = LocalKeeper(folder, parts.facts, config.checkpoint)
    keeper.restore(parts.state, sink)
    recorder = RunRecorder(
        Spool(keeper.spool), total_steps=parts.total_steps, emit=sink.update, keep=keeper.keep
    )
    fit(parts.state, parts.loader, parts.plan, evaluate=parts.evaluate, observer=recorder)
    return keeper


def best_device() -> torch.device:
    """The first GPU if there is one."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def local_folder(config: RunConfig, name: str) -> Path:
    """The run's folder.

    Raises:
        ConfigError: It is not on this machine, or the name could not be that of a folder.
    """
    location = run_location(config, name)
    if is_s3(location):
        raise ConfigError(
            f"cluster.storage={config.cluster.storage}: a run with --local needs a folder of this "
            "machine"
        )
    return Path(location)


class LocalKeeper:
    """Checkpoints of a run in a folder: the best, and the last."""

    def __init__(self, folder: Path, facts: RunFacts, config: CheckpointConfig) -> None:
        """`folder` is the run's."""
        self.spool = folder / METRICS
        """The run's metrics so far."""
        self._folder = folder
        self._facts = facts
        self._config = config

    def restore(self, state: TrainState, sink: ProgressSink) -> None:
        """Go to the last checkpoint; metrics of later steps are forgotten, they come again.

        Without one, take over what fits of the checkpoint that the run is to start from.
        """
        found = sorted((self._folder / CHECKPOINTS).glob("step_*"), reverse=True)
        latest = first_whole(found, sink.say)
        self.spool.unlink(missing_ok=True)
        if latest is not None:
            load_checkpoint(latest, state, spool=self.spool, data=self._facts.data)
            sink.say(f"resumed at step {state.step} from {latest}")
            return
        initial = initial_checkpoint(str(self._folder))
        if initial is not None:
            sink.say(str(start_from(initial, state, self._facts)))

    def keep(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Save, then delete what is neither among the best nor the last."""
        directory = self._directory(state.step)
        save_checkpoint(
            state,
            directory,
            facts=self._facts,
            metrics=metrics,
            spool=self.spool,
            figures=self._folder / FIGURES if metrics else None,
        )
        for candidate in to_delete(self._candidates(), keep=self._config.keep):
            delete_directory(self._directory(candidate.step))

    def result(self, name: str) -> RunResult:
        """What came of the run, after its last step."""
        candidates = self._candidates()
        last = self._directory(max(item.step for item in candidates))
        metadata = read_metadata(last)
        return RunResult(
            name=name,
            steps=metadata.step,
            metrics=metadata.metrics,
            best_checkpoint=str(self._directory(ranked(candidates)[0].step)),
            last_checkpoint=str(last),
            initial_metrics=initial_metrics(Spool(self.spool).read()),
        )

    def _directory(self, step: int) -> Path:
        return self._folder / CHECKPOINTS / checkpoint_name(step)

    def _candidates(self) -> list[Candidate]:
        found = []
        for directory in (self._folder / CHECKPOINTS).glob("step_*"):
            try:
                metadata = read_metadata(directory)
            except CheckpointError:  # damaged: neither kept as a good one nor counted
                continue
            found.append(Candidate(step=metadata.step, score=score(metadata.metrics, self._config)))
        return found
