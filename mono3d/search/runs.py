"""A search from its beginning to its report."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.storages import RDBStorage

from mono3d.config.load import dump_yaml, parse
from mono3d.errors import ConfigError, DataError, Mono3dError
from mono3d.search.conductor import SearchDisplay
from mono3d.search.lock import only_this_process
from mono3d.search.record import SearchRecord, create_search, run_name, usual_config
from mono3d.search.report.table import ranked
from mono3d.search.samplers import check_sampler
from mono3d.search.settings import Budget, SearchSettings
from mono3d.search.space import Space, SpaceShape, load_space
from mono3d.search.space_points import defaults_of
from mono3d.search.space_walk import check_space
from mono3d.search.tuner import search_on_ray
from mono3d.search.warm_start import Source, take_over
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.tracker import RunIdentity, Tracker
from mono3d.training.datasets import SPLITS, build_dataset
from mono3d.training.run_description import run_tags
from mono3d.training.run_record import RUNS_FOLDER, is_free, run_location
from mono3d.training.tracking import tracked_run

if TYPE_CHECKING:
    from mono3d.search.report.markdown import SearchReport

BEST = "best.yaml"


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """What came of a search."""

    report: "SearchReport"
    best_recipe: Path | None
    """None while no trial has finished."""
    run_id: str | None
    """Of the search in MLflow."""


def load_its_space(record: SearchRecord) -> Space:
    """The space that a search began with.

    Raises:
        ConfigError: The file is gone, or says something else now.
    """
    settings = record.settings
    space = load_space(settings.space)
    if space.digest != settings.space_digest:
        raise ConfigError(
            f"{settings.space}: has changed since search {record.name} began, and trials of two "
            "spaces are no study; put it back, or begin another with --name and --warm-start "
            f"{record.name}"
        )
    return space


def check_search(settings: SearchSettings, space: Space, *, is_new: bool) -> SpaceShape:
    """What can be known to be wrong before the first trial: space, recipe, sampler, budget, data.

    Raises:
        Mono3dError: It is.
    """
    config = parse(settings.tree, source=settings.recipe)
    shape = check_space(space, settings.tree, source=settings.recipe)
    if settings.shape_digest not in ("", shape.digest):
        raise ConfigError(
            f"{settings.space}: says something else than when the search began, though its text is "
            "the same: it reads its environment, which must be what it was"
        )
    check_sampler(settings.sampler, shape)
    if is_new and "train.epochs" not in shape.distributions:
        _check_scheduler(settings, usual_config(settings, space).train.epochs)
    if settings.budget.gpu_hours is not None and not config.cluster.gpus_per_worker:
        raise ConfigError("--gpu-hours: cluster.gpus_per_worker=0, so a trial has no GPU")
    for split in SPLITS:
        build_dataset(config, split, with_points=False)
    return shape


def _check_scheduler(settings: SearchSettings, epochs: int) -> None:
    grace = settings.grace_epochs
    if settings.scheduler != "none" and grace > 1 and grace >= epochs:
        raise ConfigError(
            f"--grace-epochs {grace}: a trial has train.epochs={epochs}, so {settings.scheduler} "
            "would stop none; take fewer, or --scheduler none"
        )


def begin_search(
    storage: RDBStorage, name: str, settings: SearchSettings, shape: SpaceShape
) -> SearchRecord:
    """Put a search that was checked into the database.

    Raises:
        ConfigError: There is one of this name, or its runs.
    """
    config = parse(settings.tree, source=settings.recipe)
    first = run_location(config, run_name(name, settings, 0, settings.seed))
    if not is_free(first):
        raise ConfigError(
            f"{first}: is there already, as of a search {name} in another database; --name begins "
            "another"
        )
    return create_search(storage, name, settings.model_copy(update={"shape_digest": shape.digest}))


def run_search(
    record: SearchRecord,
    space: Space,
    shape: SpaceShape,
    display: SearchDisplay,
    *,
    parallel: int | None = None,
    sources: Sequence[Source] = (),
    budget: Budget | None = None,
) -> SearchOutcome:
    """Go on with a search until its budget is spent, and report.

    Its first trial is the recipe as it stands, or the nearest to it in the space.

    Args:
        record: Of a search that has just begun, or of one that was interrupted.
        space: What it searches.
        shape: Of the space, as `check_search` found it.
        display: Who watches.
        parallel: Trials at a time; None is what fits the cluster.
        sources: Where results of earlier trials come from, of a search that has just begun.
        budget: In place of the one it has.

    Raises:
        Mono3dError: Another process works on it, Ray cannot be used, or the search cannot go on.
    """
    with only_this_process(record.name, record.storage):
        if budget is not None:
            record.raise_budget(budget)
        record.prepare(space, shape)
        if not record.is_begun:
            _prepare(record, space, sources, display)
        with tracked_run(record.config, _identity(record), folder=_folder(record)) as tracker:
            tracker.describe(_note(record))
            try:
                search_on_ray(record, display, parent=tracker, parallel=parallel)
            except Mono3dError:
                if any(row.is_done for row in ranked(record.study)):
                    _conclude(record, tracker)  # what was found is not lost
                raise
            return _conclude(record, tracker)


def _prepare(
    record: SearchRecord, space: Space, sources: Sequence[Source], display: SearchDisplay
) -> None:
    """What comes before the first trial; killed on the way, the next call does the rest."""
    if not record.own_trials():
        _enqueue_recipe(record, space, display)
    for source in sources:
        display.say(take_over(source, record, space))
    record.note_begun()


def _enqueue_recipe(record: SearchRecord, space: Space, display: SearchDisplay) -> None:
    """As the first trial; where the space has not its values, the nearest to it."""
    own = defaults_of(space, record.config)
    if usual_config(record.settings, space) == record.config:
        record.study.enqueue_trial(own, user_attrs={"is_default": True})
        return
    display.say("the recipe lies outside of the space: the first trial is the nearest to it")
    record.study.enqueue_trial(own)


def report_known(record: SearchRecord, folder: Path) -> SearchOutcome:
    """Report, figures and the best trial as a recipe, of what is in the database now.

    Raises:
        DataError: The folder cannot be written.
    """
    from mono3d.search.report.markdown import write_search_report  # Matplotlib, plotly

    settings = record.settings
    try:
        folder.mkdir(parents=True, exist_ok=True)
        best = _write_best(record, folder)
        report = write_search_report(
            record.study,
            folder,
            title=record.name,
            command=settings.command,
            about=settings.about,
            best_recipe=best,
        )
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    return SearchOutcome(report=report, best_recipe=best, run_id=None)


def _conclude(record: SearchRecord, tracker: Tracker) -> SearchOutcome:
    """The report, and all of it on the search's record in MLflow."""
    outcome = report_known(record, _folder(record))
    files = [outcome.report.report, *outcome.report.figures]
    for path in [*files, *([outcome.best_recipe] if outcome.best_recipe else [])]:
        tracker.log_artifact(path, "search")
    tracker.log_metrics([_summary(record)])
    answer = "\n".join(outcome.report.answer)  # MLflow folds all but the first lines
    tracker.describe(f"{answer}\n\n{_note(record)}")
    return replace(outcome, run_id=tracker.run_id)


def _summary(record: SearchRecord) -> MetricRecord:
    """What came of the search, in numbers; of a later call it is a later step."""
    rows = ranked(record.study)
    metrics = {
        f"trials/{state.replace(' ', '_')}": float(sum(row.state == state for row in rows))
        for state in ("finished", "tried before", "stopped early", "failed")
    }
    if len(record.settings.objectives) == 1 and rows and rows[0].rank == 1:
        metrics[f"best/{record.metric}"] = rows[0].values[0]
    now_ms = int(time.time() * 1000)
    return MetricRecord(step=len(rows), time_ms=now_ms, metrics=metrics)


def _note(record: SearchRecord) -> str:
    """What it asks, and how."""
    return f"{record.settings.about}\n\n```\n{record.settings.command}\n```"


def _write_best(record: SearchRecord, folder: Path) -> Path | None:
    """The best trial's settings in the recipe, as a recipe."""
    finished = [row for row in ranked(record.study) if row.rank == 1]
    if not finished:
        return None
    path = folder / BEST
    path.write_text(dump_yaml(record.config_of(finished[0].number)))
    return path


def _folder(record: SearchRecord) -> Path:
    return RUNS_FOLDER / record.name


def _identity(record: SearchRecord) -> RunIdentity:
    """Of the search's own record, above those of its trials."""
    settings = record.settings
    objectives = ", ".join(f"{metric} ({mode})" for metric, mode in settings.objectives.items())
    return RunIdentity(
        name=f"{record.name} (search)",
        params={
            "search.space": settings.space,
            "search.objectives": objectives,
            "search.sampler": settings.sampler,
            "search.scheduler": settings.scheduler,
            "search.seed": str(settings.seed),
            "search.repeats": str(settings.repeats),
        },
        tags={
            **run_tags(record.config, settings.recipe),
            "study": record.name,
            "study.overrides": " ".join(settings.overrides),
        },
    )
