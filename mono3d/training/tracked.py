"""A run on Ray with its record in MLflow: what `mono3d train` does."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from mono3d.config.load import flatten
from mono3d.config.schema import RunConfig
from mono3d.storage.location import local_copy
from mono3d.storage.patience import patiently
from mono3d.tracking.tracker import NullTracker, RunIdentity, Tracker
from mono3d.training.assess import Assessment, record_network
from mono3d.training.checkpoint import copy_figures, read_metadata
from mono3d.training.checkpoint_files import verified_copy
from mono3d.training.datasets import SPLITS, split_records
from mono3d.training.launch import launch, launch_profile
from mono3d.training.parts import open_splits
from mono3d.training.progress import ProgressSink
from mono3d.training.run_description import RunOutcome, RunPlace, describe, run_tags
from mono3d.training.run_record import RUNS_FOLDER, RunResult, read_result, run_location
from mono3d.training.step_profile import PROFILE, PROFILE_FILES
from mono3d.training.teachers import teacher_facts, with_teacher_found
from mono3d.training.tracking import tracked_run


def train_tracked(
    config: RunConfig,
    *,
    name: str,
    sink: ProgressSink,
    figures: Path | None = None,
    recipe: str | None = None,
    parent: Tracker | str | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
    exports_network: bool = True,
) -> tuple[RunResult, Assessment]:
    """Train on Ray, then record the best checkpoint: its figures, its network, where it is.

    Several threads of a process may do this at once, each with a name of its own, if the
    process is already connected to Ray (`ray_session`).

    Args:
        config: The run.
        name: Of the run, on storage and in MLflow.
        sink: Who watches.
        figures: Folder for the pictures; None keeps them in MLflow only.
        recipe: Name of what the config was made from; None if it was not made from a recipe.
        parent: The MLflow run under which this one is listed, such as a study's: its id, or its
            record.
        tags: More tags for the run's record.
        exports_network: Put the network on the record too; that takes many seconds.

    Raises:
        Mono3dError: As `launch` does; the run's record then says FAILED.
    """
    location = run_location(config, name)
    config = with_teacher_found(config, location)
    identity = RunIdentity(
        name=name,
        params=flatten(config),
        tags={**run_tags(config, recipe), **tags},
        parent=parent,
    )
    with tracked_run(config, identity, folder=RUNS_FOLDER / name) as tracker:
        is_done = read_result(location) is not None
        splits = _record_data(config, tracker, is_done=is_done)
        place = RunPlace(recipe=recipe, folder=location, splits=splits, run_id=tracker.run_id)
        tracker.describe(describe(config, place))
        result = launch(config, name=name, tracker=tracker, sink=sink)
        best = result.best_checkpoint
        if not config.model.reads_images_alone:  # images and cameras alone do not make it answer
            exports_network = False
        if exports_network:
            sink.say(f"exporting {best}")
        with ExitStack() as folders:
            scratch = Path(folders.enter_context(TemporaryDirectory()))
            directory = patiently(lambda: folders.enter_context(verified_copy(best)), sink.say)
            drawn = copy_figures(directory, figures or scratch)
            for figure in drawn:
                tracker.log_artifact(figure, "figures")
            if exports_network:
                record_network(directory, config, tracker)
            metadata = read_metadata(directory)
        tracker.log_json(metadata.data, "config", "data.json")
        tracker.log_checkpoint(best, {"run": name, "run_steps": result.steps})
        outcome = RunOutcome(
            checkpoint=best,
            step=metadata.step,
            metrics=metadata.metrics,
            initial_metrics=result.initial_metrics,
        )
        tracker.describe(describe(config, replace(place, run_id=tracker.run_id), outcome))
    scores = {name.removeprefix("val/"): value for name, value in metadata.metrics.items()}
    return result, Assessment(metrics=scores, figures=drawn)


def profile_tracked(config: RunConfig, *, name: str, steps: int, sink: ProgressSink) -> str:
    """Profile the first steps of a run on Ray, recorded as a run of its own in MLflow.

    Each profile is a new one there: params of a run are never changed, and settings are.

    Args:
        config: The run.
        name: Of the run, in whose folder the profile is written.
        steps: To profile.
        sink: Who watches.

    Returns:
        Where the profile is.

    Raises:
        Mono3dError: As `launch_profile` does; the record then says FAILED.
    """
    config = with_teacher_found(config)
    record = f"{name}-{PROFILE}-{time.strftime('%Y%m%d-%H%M%S')}"
    identity = RunIdentity(name=record, params=flatten(config), tags=run_tags(config))
    with tracked_run(config, identity, folder=RUNS_FOLDER / name / PROFILE / record) as tracker:
        _record_data(config, tracker)
        location = launch_profile(config, name=name, steps=steps, sink=sink)
        with local_copy(location) as folder:
            for file in PROFILE_FILES:
                tracker.log_artifact(folder / file, PROFILE)
    return location


def _record_data(config: RunConfig, tracker: Tracker, *, is_done: bool = False) -> dict[str, str]:
    """Put the data sets on the record, if there is one; name and size by what they are for.

    The teacher of a run that is done may be gone.
    """
    if isinstance(tracker, NullTracker):
        return {}
    named: dict[str, str] = {}
    opened = open_splits(config, None if is_done else teacher_facts(config))
    for context, dataset in zip(SPLITS, opened, strict=True):
        records = split_records(config.data, context, dataset)
        for record in records:
            tracker.log_dataset(
                name=record.name,
                digest=record.fingerprint[:16],
                source=record.source,
                context=context,
            )
        named[context] = f"{' + '.join(record.name for record in records)}: {len(dataset)} frames"
    return named
