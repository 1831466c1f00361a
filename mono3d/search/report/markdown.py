"""A search's report: the answer first, then what it stands on; in Markdown, with its pictures."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from optuna import Study

from mono3d.search.report.answer import answer, mattered
from mono3d.search.report.figures import PAGE, SearchFigures, search_figures, write_figures
from mono3d.search.report.importance import MIN_TRIALS
from mono3d.search.report.table import (
    RankedTrial,
    format_duration,
    table_cells,
    table_head,
)
from mono3d.search.report.view import SearchView, view

REPORT = "report.md"
_IN_CODE = "changed settings"
_STATES = ("finished", "imported", "tried before", "stopped early", "failed", "running", "waiting")


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """What was written."""

    report: Path
    figures: tuple[Path, ...]
    """PNG files, and last the page with the interactive ones."""
    answer: tuple[str, ...]
    """Sentences in plain text."""


def write_search_report(
    study: Study, folder: Path, *, title: str, command: str, about: str, best_recipe: Path | None
) -> SearchReport:
    """Report on a search, which may still go on, from what its database has now.

    Args:
        study: The search.
        folder: Where files are written; of an earlier report nothing stays.
        title: Name of the search.
        command: That makes it.
        about: Its question.
        best_recipe: File with the best trial's settings, if there is one.
    """
    shown = view(study)
    recipe = None if best_recipe is None else _relative(best_recipe, folder)
    said = answer(shown, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    figures = search_figures(shown)
    paths = write_figures(figures, shown, folder, title=title, answer=said)
    parts = [
        [f"# {title}", "", about.strip(), "", "```sh", command, "```"],
        ["## Answer", "", *(f"- {_literal(line)}" for line in said)],
        _best(shown),
        _mattered(shown),
        _trials(shown),
        _pictures(figures),
        _method(shown),
    ]
    report = folder / REPORT
    report.write_text(
        "\n\n".join("\n".join(part) for part in parts if part) + "\n", encoding="utf-8"
    )
    return SearchReport(report=report, figures=paths, answer=tuple(said))


def _best(shown: SearchView) -> list[str]:
    """The settings that won, to be copied."""
    lines: list[str] = []
    for row in shown.usable:
        if row.rank != 1 or (lines and len(shown.goals) == 1):
            break
        changed = {text.partition("=")[0] for text in row.changed}
        lines += ["", f"### Trial {row.number}", ""]
        if row.is_default:
            lines.append("The recipe as it is.")
        elif not changed:
            lines.append("The same settings as the recipe's own.")
        else:
            words = [_override(p, value) for p, value in row.params.items() if p in changed]
            lines += ["```sh", *words, "```"]
        if row.checkpoint:
            lines += ["", f"Best checkpoint: `{row.checkpoint}`"]
    if not lines:
        return []
    known = any(row.is_default for row in shown.rows)
    what = "What it changes" if known else "What it draws; the recipe's own were not tried"
    return [f"## {'Best settings' if len(shown.goals) == 1 else 'Pareto-optimal settings'}", "",
            f"{what}, as overrides of the recipe.", *lines]  # fmt: skip


def _mattered(shown: SearchView) -> list[str]:
    lines = []
    for goal, report in zip(shown.goals, shown.importances, strict=True):
        about = f"{goal.words}, " if len(shown.goals) > 1 else ""
        lines += [f"- {about}{mattered(group)}." for group in report.groups]
        left = [f"{branch or 'all trials'} ({why})" for branch, why in report.left_out.items()]
        lines += [f"- {about}not judged: {', '.join(left)}."] if left else []
    return ["## What mattered", "", *lines]


def _trials(shown: SearchView) -> list[str]:
    head = table_head(shown.goals)
    cells = [table_cells(row, shown.goals) for row in shown.rows]
    for line, row in zip(cells, shown.rows, strict=True):
        if row.changed:
            line[head.index(_IN_CODE)] = ", ".join(f"`{text}`" for text in row.changed)
    counts = [f"{len(rows)} {state}" for state in _STATES if (rows := shown.in_state(state))]
    return [
        "## Trials",
        "",
        f"{', '.join(counts) or 'None yet'}. {_time(shown.rows)}".strip(),
        *_reasons(shown),
        "",
        "Values in brackets are what a trial without a result last reported.",
        "",
        *_table(head, cells),
    ]


def _time(rows: Sequence[RankedTrial]) -> str:
    spent = [row.seconds for row in rows if row.seconds is not None and row.state != "imported"]
    if not spent:
        return ""
    whole = [r.seconds for r in rows if r.seconds is not None and r.state == "finished"]
    stopped = [r.seconds for r in rows if r.seconds is not None and r.state == "stopped early"]
    said = f"{format_duration(sum(spent))} in all"
    if whole:
        said += f"; a finished trial took {format_duration(median(whole))} (median)"
        said += f", the longest {format_duration(max(whole))}"
    if stopped:
        said += f"; one that was stopped early {format_duration(median(stopped))}"
    return f"{said}."


def _reasons(shown: SearchView) -> list[str]:
    """Why trials failed or were stopped; reasons that differ in numbers alone are one."""
    alike: dict[tuple[str, str], list[RankedTrial]] = {}
    for row in shown.in_state("failed", "stopped early"):
        reason = " ".join((row.reason or "no reason was written down").split())
        alike.setdefault((row.state, re.sub(r"\d+(\.\d+)?", "#", reason)), []).append(row)
    lines = []
    for (state, pattern), rows in sorted(alike.items()):
        reason = pattern if len(rows) > 1 else " ".join((rows[0].reason or pattern).split())
        numbers = ", ".join(str(row.number) for row in rows)
        lines.append(f"- {state}, trial{'s' * (len(rows) > 1)} {numbers}: {_literal(reason)}")
    return ["", *lines] if lines else []


def _pictures(figures: SearchFigures) -> list[str]:
    lines = ["## Pictures", "", f"The same to point at, with the trials: [{PAGE}]({PAGE})."]
    for figure in figures.drawn:
        path = f"{figure.name}.png"
        lines += ["", f"### {figure.title}", "", figure.reading, "", f"![{figure.title}]({path})"]
    if figures.left_out:
        lines += ["", "### Not drawn", ""]
        lines += [f"- {name}: {reason}." for name, reason in figures.left_out.items()]
    return lines


def _method(shown: SearchView) -> list[str]:
    said = (
        "A trial's value is that of its run's last evaluation, never of the best one; with "
        "repeats it is their mean, ± their sample standard deviation. "
    )
    if len(shown.goals) == 1:
        said += "Equal values share a rank. The difference to the recipe's own settings is paired "
        said += "by seed, with Student's interval of 95 %. "
    said += (
        "Importances are fANOVA's over finished trials: shares of the variance that a setting "
        "makes alone, in a forest whose worth is what it foretells of trials left out of each "
        f"tree; with fewer than {MIN_TRIALS} finished trials nothing is said. A search looks "
        "where it expects good trials, so they do not cover the space evenly."
    )
    return ["## Method", "", said]


def _override(path: str, value: Any) -> str:
    """To all digits, as the command line takes it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{path}={text}"


def _relative(path: Path, folder: Path) -> str:
    """As seen from where commands are given, unless it is beside the report."""
    return path.name if path.parent == folder else str(path)


def _literal(text: str) -> str:
    """Text that Markdown takes as it is."""
    return re.sub(r"([\\`*<>|])", r"\\\1", text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
