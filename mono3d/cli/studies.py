"""`mono3d studies`: the searches in the database, what they found, and how they compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mono3d.cli.tune import DatabaseOption, database_url, show_outcome
from mono3d.errors import ConfigError

if TYPE_CHECKING:
    from mono3d.search.record import SearchRecord

app = typer.Typer(
    no_args_is_help=True, help="Searches that `mono3d tune` has made: list, show, compare them."
)


@app.command(name="list")
def list_searches(database: DatabaseOption = None) -> None:
    """All searches, with what they search for and how far they are."""
    from mono3d.search.database import open_database, search_names
    from mono3d.search.record import open_search
    from mono3d.search.report.table import format_value, ranked

    storage = open_database(database or database_url(), creates=False)
    table = Table("search", "recipe", "space", "objective", "trials", "best")
    for name in search_names(storage):
        try:
            record = open_search(storage, name)
        except ConfigError:  # another program's
            continue
        settings, rows = record.settings, ranked(record.study)
        best = next((row for row in rows if row.rank == 1), None)
        done = sum(row.state not in ("running", "waiting", "imported") for row in rows)
        table.add_row(
            name,
            settings.recipe,
            settings.space,
            ", ".join(f"{metric} ({mode})" for metric, mode in settings.objectives.items()),
            f"{done}/{settings.budget.trials}",
            ", ".join(map(format_value, best.values)) if best else "",
        )
    Console().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Of the search.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write report and figures into this folder too."),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", help="Write settings, results and learning curves into this file."),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """The ranked trials of a search; also while it works."""
    from mono3d.search.database import open_database
    from mono3d.search.record import open_search
    from mono3d.search.report.table import goals_of, ranked, table_cells, table_head
    from mono3d.search.runs import report_known

    record = open_search(open_database(database or database_url(), creates=False), name)
    goals = goals_of(record.study)
    table = Table(*table_head(goals))
    for row in ranked(record.study):
        table.add_row(*table_cells(row, goals))
    Console().print(table)
    if json is not None:
        from mono3d.cli.json_output import write_json

        write_json(json, record.as_json())
    if output is not None:
        show_outcome(report_known(record, output))


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Of two or more searches.")],
    database: DatabaseOption = None,
) -> None:
    """Searches side by side: the best of each, what it beat, and what it cost."""
    from mono3d.search.database import open_database
    from mono3d.search.record import open_search

    if len(set(names)) < 2:
        raise ConfigError("studies compare: needs two searches or more")
    storage = open_database(database or database_url(), creates=False)
    records = [open_search(storage, name) for name in names]
    first, *others = (record.settings.objectives for record in records)
    if any(other != first for other in others):
        raise ConfigError(
            f"studies compare: {names[0]} searches for {', '.join(first)}, and not all others do"
        )
    table = Table("search", "space", "sampler", "early stopping", *first, "of the recipe",
                  "trials", "hours of trials")  # fmt: skip
    for record in records:
        table.add_row(*_row(record))
    Console().print(table)


def _row(record: "SearchRecord") -> list[str]:
    from mono3d.search.report.table import default_of, format_value, ranked

    rows, settings = ranked(record.study), record.settings
    best = next((row for row in rows if row.rank == 1), None)
    default = default_of(rows)
    return [
        record.name,
        Path(settings.space).stem,
        settings.sampler,
        settings.scheduler,
        *(map(format_value, best.values) if best else ["" for _ in settings.objectives]),
        ", ".join(map(format_value, default.values)) if default else "",
        str(sum(row.state not in ("running", "waiting", "imported") for row in rows)),
        f"{record.spent_seconds() / 3600:.2f}",
    ]
