"""`mono3d tune`: search over settings, on Ray Tune with Optuna."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mono3d.cli.options import OverridesArgument
from mono3d.errors import ConfigError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

    from mono3d.search.record import SearchRecord
    from mono3d.search.runs import SearchOutcome
    from mono3d.search.settings import Budget, SearchSettings
    from mono3d.search.space import Objective, Space, SpaceShape
    from mono3d.search.warm_start import Source

_TRIALS = 24
_INTERRUPTED = 130
"""As a shell has it."""

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///PATH or postgresql://USER@HOST/NAME. Default: MONO3D_SEARCHES, else "
        "runs/searches.db.",
    ),
]


def tune(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="Name of a shipped recipe, or path of a YAML file; not with --resume.",
        ),
    ] = None,
    overrides: OverridesArgument = None,
    space: Annotated[
        str | None, typer.Option(help="Python file of the space, such as tune_spaces/mining.py.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help=f"Trials, all calls together. Default: {_TRIALS}.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="No further trial after so many hours; others stop.")
    ] = None,
    gpu_hours: Annotated[
        float | None, typer.Option(help="The same after so many GPU-hours of its trials.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the search. Default: RECIPE-SPACE.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Go on with this search; its budget may be raised."),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC:MODE",
            help="In place of the space's own, such as val/nuscenes_map:max; several times for a "
            "trade-off.",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="tpe, gp, random, nsga2; on flat spaces also cmaes (numbers only) and grid. "
            "Default: tpe; nsga2 for several objectives.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Who stops trials early: asha, median, hyperband, none. Default: asha; none for "
            "several objectives.",
        ),
    ] = None,
    grace_epochs: Annotated[
        int | None, typer.Option(min=1, help="Before which nothing is stopped. Default: 1.")
    ] = None,
    reduction: Annotated[
        int | None,
        typer.Option(
            min=2, help="asha, hyperband: one of so many goes on from each rung. Default: 3."
        ),
    ] = None,
    grid_points: Annotated[
        int | None,
        typer.Option(min=2, help="grid: of a range without steps of its own. Default: 3."),
    ] = None,
    population: Annotated[
        int | None,
        typer.Option(min=2, help="nsga2: trials of a generation. Default: a quarter, 4 to 50."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of proposals and trials. Default: the recipe's.")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Seeds of a trial, whose mean is its value. Default: 1."),
    ] = None,
    warm_start: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Know an earlier search's trials.")
    ] = None,
    warm_start_mlflow: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY", help="Know the runs that MLflow finds: \"tags.recipe = 'demo'\"."
        ),
    ] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time. Default: what fits the cluster.")
    ] = None,
    database: DatabaseOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check space and recipe, show both, and stop.")
    ] = False,
) -> None:
    """Search for better settings of a recipe; the first trial is the recipe itself.

    Every trial is a run on Ray with a record of its own in MLflow, below that of the search. It
    reports after each evaluation, and bad ones are stopped early. Killed at any moment, --resume
    goes on. What comes out: a ranked table, figures, and the best trial as a recipe.
    """
    from mono3d.search.database import open_database

    url = database or database_url()
    budget = _given(trials=trials, hours=hours, gpu_hours=gpu_hours)
    choices = _given(
        sampler=sampler, scheduler=scheduler, grace_epochs=grace_epochs, reduction=reduction,
        grid_points=grid_points, population=population, seed=seed, repeats=repeats,
        warm_start=warm_start, warm_start_mlflow=warm_start_mlflow,
    )  # fmt: skip
    if resume is not None:
        others = _given(
            recipe=recipe, space=space, name=name, objective=objective, dry_run=dry_run or None,
            **choices,
        )  # fmt: skip
        if others:
            first = next(iter(others))
            option = "RECIPE" if first == "recipe" else f"--{first.replace('_', '-')}"
            raise ConfigError(
                f"{option}: is fixed since search {resume} began; with --resume only --trials, "
                "--hours, --gpu-hours, --parallel and --database may be given"
            )
        _go_on(open_database(url, creates=False), resume, budget, parallel)
        return
    if recipe is None or space is None:
        raise ConfigError("tune: needs RECIPE and --space FILE, or --resume NAME")
    from mono3d.search.runs import begin_search, check_search
    from mono3d.search.space import load_space, objectives_of

    loaded = load_space(space)
    objectives = objectives_of(objective) if objective else loaded.objectives
    settings = _settings(recipe, overrides or [], loaded, objectives, choices, budget)
    shape = check_search(settings, loaded, is_new=True)
    if dry_run:
        _show_plan(settings, shape)
        return
    storage = open_database(url, creates=True)
    sources = _sources(storage, settings)
    name = name or f"{Path(recipe).stem}-{Path(space).stem}"
    record = begin_search(storage, name, settings, shape)
    _work(record, loaded, shape, parallel, sources=sources)


def database_url() -> str:
    """Of the database of searches."""
    from mono3d.search.database import DEFAULT_DATABASE, VARIABLE

    return os.environ.get(VARIABLE) or DEFAULT_DATABASE


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _settings(
    recipe: str,
    overrides: Sequence[str],
    space: "Space",
    objectives: "Sequence[Objective]",
    choices: Mapping[str, Any],
    budget: Mapping[str, Any],
) -> "SearchSettings":
    """Of a search that begins; where it may be stopped, a trial is evaluated every epoch."""
    from mono3d.config.load import apply_overrides, parse, parse_override, read_recipe
    from mono3d.search.settings import read_settings
    from mono3d.tracking.redact import redact

    given = [parse_override(text) for text in overrides]
    tree = apply_overrides(read_recipe(recipe), given)
    config = parse(tree, source=recipe)
    usual = ("tpe", "asha") if len(objectives) == 1 else ("nsga2", "none")
    # A generation of Optuna's own 50 would be the whole of a small search, and random.
    population = max(4, min(50, budget.get("trials", _TRIALS) // 4))
    chosen = {
        "sampler": usual[0], "scheduler": usual[1], "seed": config.seed, "population": population,
        **choices,
    }  # fmt: skip
    every = "evaluation.every_epochs"
    is_said = every in dict(given)
    if chosen["scheduler"] != "none" and config.evaluation.every_epochs != 1 and not is_said:
        typer.echo(f"{every}=1: a trial may be stopped after each epoch")
        tree = apply_overrides(tree, [(every, 1)])
    tree.pop("seed", None)
    return read_settings(
        {
            "recipe": Path(recipe).stem,
            "tree": tree,
            "overrides": list(map(redact, overrides)),
            "command": redact(shlex.join(["mono3d", *sys.argv[1:]])),
            "space": space.source,
            "about": space.about,
            "space_digest": space.digest,
            "objectives": {each.metric: each.mode for each in objectives},
            "budget": {"trials": _TRIALS, **budget},
            **chosen,
        },
        source="tune",
    )


def _sources(storage: "RDBStorage", settings: "SearchSettings") -> "list[Source]":
    from mono3d.config.load import parse
    from mono3d.search.warm_start import sources_of

    config = parse(settings.tree, source=settings.recipe)
    return sources_of(storage, settings, config.tracking.experiment)


def _go_on(
    storage: "RDBStorage", name: str, budget: Mapping[str, Any], parallel: int | None
) -> None:
    from mono3d.search.record import open_search
    from mono3d.search.runs import check_search, load_its_space
    from mono3d.search.settings import raised

    record = open_search(storage, name)
    space = load_its_space(record)
    settings = record.settings
    changed = raised(settings.budget, budget) if budget else settings.budget
    shape = check_search(settings.model_copy(update={"budget": changed}), space, is_new=False)
    sources = [] if record.is_begun else _sources(storage, settings)
    _work(record, space, shape, parallel, sources=sources, budget=changed if budget else None)


def _work(
    record: "SearchRecord",
    space: "Space",
    shape: "SpaceShape",
    parallel: int | None,
    *,
    sources: "Sequence[Source]" = (),
    budget: "Budget | None" = None,
) -> None:
    from mono3d.cli.tune_display import TuneDisplay
    from mono3d.search.runs import run_search

    try:
        with TuneDisplay(record) as display:
            outcome = run_search(
                record, space, shape, display, parallel=parallel, sources=sources, budget=budget
            )
    except KeyboardInterrupt:
        typer.echo(f"interrupted; mono3d tune --resume {record.name} goes on", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    show_outcome(outcome)


def show_outcome(outcome: "SearchOutcome") -> None:
    """Answer and files."""
    for line in outcome.report.answer:
        typer.echo(line)
    typer.echo(f"report   {outcome.report.report}")
    for path in outcome.report.figures:
        typer.echo(f"picture  {path}")
    if outcome.best_recipe is not None:
        typer.echo(f"recipe   {outcome.best_recipe}: mono3d train {outcome.best_recipe}")
    if outcome.run_id:
        typer.echo(f"MLflow run {outcome.run_id}")


def _show_plan(settings: "SearchSettings", shape: "SpaceShape") -> None:
    table = Table("setting", "from")
    for key, distribution in shape.distributions.items():
        table.add_row(key, str(distribution))
    Console().print(table)
    typer.echo(
        f"{settings.budget.trials} trials of {settings.recipe}, {settings.sampler} and "
        f"{settings.scheduler}, {settings.repeats} seed(s); "
        + ", ".join(f"{metric} ({mode})" for metric, mode in settings.objectives.items())
    )
