"""`mono3d study`: a recipe under several settings and seeds, and what may be concluded."""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from mono3d.cli.options import OverridesArgument, RecipeArgument
from mono3d.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from mono3d.comparison.study_record import CellResult
    from mono3d.comparison.study_runs import Outcome
    from mono3d.comparison.variants import Cell, StudySpec
    from mono3d.training.progress import Progress

_LINE_EVERY_S = 60.0


def study(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    variants: Annotated[
        str,
        typer.Option(help="A shipped file of variants (docs/studies.md lists them), or a path."),
    ] = "mining",
    seeds: Annotated[str, typer.Option(help="Seeds of every variant.")] = "0,1,2,3,4",
    only: Annotated[
        str | None, typer.Option(help="Of the variants, these and the baseline: none,gmm,ohem.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="The variant that others are compared with. Default: the file's."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of the study; the same name goes on. Default: RECIPE-VARIANTS."),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="File of all results, written after each run; what is in it is not run again. "
            "Default: runs/NAME/results.json.",
        ),
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="One run after the other in this process, without Ray."),
    ] = False,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time. Default: what fits the cluster.")
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Only write the report of the results that are there."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every run's settings, list them, and stop.")
    ] = False,
) -> None:
    """Compare settings fairly: every variant with every seed, paired differences, intervals.

    Each run is a run of its own on Ray, as many side by side as fit, and a child of the study's
    run in MLflow. Killed at any moment, the same command goes on. The report says gain or loss
    only where the interval leaves zero out.
    """
    from mono3d.comparison.study_record import StudyRecord
    from mono3d.comparison.study_runs import Study, report_known, study_locally
    from mono3d.comparison.variants import load_variants, plan_cells

    spec = load_variants(variants)
    if baseline is not None:
        spec = spec.against(baseline)
    if only is not None:
        spec = spec.only([part.strip() for part in only.split(",")])
    cells = plan_cells(recipe, overrides or [], spec, _seeds(seeds))
    if dry_run:
        _list(spec, cells)
        return
    planned = Study(
        name=name or f"{Path(recipe).stem}-{Path(variants).stem}",
        recipe=Path(recipe).stem,
        overrides=overrides or [],
        spec=spec,
        cells=cells,
        command=shlex.join(["mono3d", *sys.argv[1:]]),
    )
    record = StudyRecord(json or planned.folder / "results.json")
    if local and parallel is not None:
        raise ConfigError(f"--parallel {parallel}: with --local one run follows the other")
    with record.locked(), _Display(len(cells), spec.metric) as display:
        if report:
            outcome = report_known(planned, record)
        elif local:
            outcome = study_locally(planned, record, display)
        else:
            from mono3d.comparison.study_on_ray import study_on_ray

            outcome = study_on_ray(planned, record, display, parallel=parallel)
    _show(spec, outcome, record.path)


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text}: must be numbers with commas, such as 0,1,2") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds {text}: must differ, and be 0 or more")
    return seeds


def _list(spec: "StudySpec", cells: "Sequence[Cell]") -> None:
    table = Table("variant", "settings", "seeds")
    for name, variant in spec.variants.items():
        own = [str(cell.seed) for cell in cells if cell.variant == name]
        table.add_row(name, ", ".join(variant.settings), ", ".join(own))
    Console().print(table)
    typer.echo(f"{len(cells)} runs; declared metric {spec.metric} ({spec.mode})")


def _show(spec: "StudySpec", outcome: "Outcome", results: Path) -> None:
    from mono3d.comparison.study_metrics import in_words
    from mono3d.comparison.study_report import sentence

    console = Console()
    for reason in outcome.weaknesses:
        console.print(f"does not count: {reason}", style="bold", highlight=False)
    typer.echo(f"difference to {spec.baseline}, {in_words(spec.metric)} ({spec.metric}):")
    for row in (row for rows in outcome.differences.values() for row in rows):
        if row.is_declared:
            typer.echo(f"  {sentence(row, is_weak=bool(outcome.weaknesses))}")
        elif row.verdict != "open":
            typer.echo(f"      also {sentence(row)}")
    typer.echo(f"report   {outcome.report}")
    for path in outcome.figures:
        typer.echo(f"picture  {path}")
    typer.echo(f"results  {results}")
    if outcome.run_id:
        typer.echo(f"MLflow run {outcome.run_id}")
    failed = [result for result in outcome.results if result.error is not None]
    if failed:
        first = failed[0]
        raise ServiceError(
            f"{len(failed)} of {len(outcome.results)} runs have no result, first {first.variant} "
            f"with seed {first.seed}: {first.error}; the same command tries them again"
        )


class _Display:
    """A bar for the study and one for each run at work; lines where no terminal is."""

    def __init__(self, total: int, metric: str) -> None:
        self._total = total
        self._metric = metric
        self._console = Console(file=sys.stderr)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._whole = self._bar.add_task("runs", total=total, figures="")
        self._tasks: dict[str, TaskID] = {}
        self._last_line_s: dict[str, float] = {}
        self._lock = Lock()
        self._done = 0

    def __enter__(self) -> "_Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def cell(self, cell: "Cell", progress: "Progress") -> None:
        from mono3d.training.progress_display import figures

        with self._lock:
            shown = "evaluating" if progress.record is None else figures(progress.record.metrics)
            task = self._tasks.get(cell.label)
            if task is None:
                task = self._bar.add_task(cell.label, total=progress.total_steps, figures="")
                self._tasks[cell.label] = task
            self._bar.update(task, completed=progress.step, figures=shown)
            is_due = time.monotonic() - self._last_line_s.get(cell.label, 0) >= _LINE_EVERY_S
            if not self._console.is_terminal and is_due:
                self._last_line_s[cell.label] = time.monotonic()
                self._print(f"{cell.label}: step {progress.step}/{progress.total_steps} {shown}")

    def done(self, cell: "Cell", result: "CellResult", *, is_new: bool) -> None:
        with self._lock:
            self._done += 1
            self._bar.update(self._whole, completed=self._done)
            task = self._tasks.pop(cell.label, None)
            if task is not None:
                self._bar.remove_task(task)
            self._print(f"{self._done}/{self._total} {cell.label}: {self._outcome(result, is_new)}")

    def say(self, line: str) -> None:
        with self._lock:
            self._print(line)

    def _outcome(self, result: "CellResult", is_new: bool) -> str:
        if result.error is not None:
            return f"no result: {result.error}"
        value = result.metrics.get(self._metric)
        measured = f"{self._metric} {'not measured' if value is None else f'{value:.4f}'}"
        return f"{measured}, {result.seconds:.0f} s" if is_new else f"{measured}, known before"

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
