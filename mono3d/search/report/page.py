"""A search as one page: its trials in a table and its figures, with nothing to be fetched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mono3d.search.report.table import RankedTrial, table_cells, table_head
from mono3d.search.report.view import SearchView

_STYLE = """
body { font: 15px/1.45 "DejaVu Sans", Arial, sans-serif; color: #222; margin: 2em auto;
  max-width: 1200px; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
p, ul { max-width: 62em; } ul { padding-left: 1.2em; } .about { color: #555; }
.scroll { overflow: auto; border: 1px solid #ddd; } .table { max-height: 26em; }
table { border-collapse: collapse; font-size: 12.5px; width: 100%; }
th, td { padding: 4px 9px; text-align: left; vertical-align: top; border-bottom: 1px solid #eee; }
th { position: sticky; top: 0; background: #f4f4f4; white-space: nowrap; }
td { white-space: nowrap; } td.wide { white-space: normal; min-width: 24em; }
td.wide div { max-height: 7.5em; overflow: auto; }
tr.best { background: #e6f2ea; font-weight: 600; } tr.own { background: #f6e9ef; }
tr.bad { color: #888; }
"""
_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    # By default there is a button that uploads the figure.
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
    "showSendToCloud": False,
    "plotlyServerURL": "",
}
_WIDE = ("changed settings", "note")


@dataclass(frozen=True)
class Section:
    """A figure under its heading."""

    name: str
    title: str
    about: str
    figure: go.Figure


def write_page(
    path: Path,
    view: SearchView,
    *,
    title: str,
    answer: Sequence[str],
    sections: Sequence[Section],
    left_out: Mapping[str, str],
) -> None:
    """Write the page.

    Args:
        path: File to write.
        view: The search.
        title: Heading.
        answer: Lines before everything else, in plain text.
        sections: The figures.
        left_out: Title of what could not be drawn → why.
    """
    missing = "".join(f"<li>{escape(f'{n}: {why}')}</li>" for n, why in left_out.items())
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{_STYLE}</style>",
        f"<script>{get_plotlyjs()}</script></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in answer)}</ul>",
        "<h2>All trials</h2>",
        '<p class="about">Green is the best, red the recipe as it is; values in brackets are what '
        "a trial without a result last reported.</p>",
        f'<div class="scroll table">{_table(view)}</div>',
        *map(_section, sections),
        f"<h2>Not drawn</h2><ul>{missing}</ul>" if missing else "",
        "</body></html>",
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _section(section: Section) -> str:
    figure = section.figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=section.name, config=_CONFIG
    )
    return (
        f'<h2>{escape(section.title)}</h2>\n<p class="about">{escape(section.about)}</p>\n'
        f'<div class="scroll">{figure}</div>'
    )


def _table(view: SearchView) -> str:
    names = table_head(view.goals)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = []
    for row in view.rows:
        cells = [
            f'<td class="wide"><div>{escape(cell)}</div></td>'
            if name in _WIDE
            else f"<td>{escape(cell)}</td>"
            for name, cell in zip(names, table_cells(row, view.goals), strict=True)
        ]
        lines.append(f'<tr class="{_tint(row)}">{"".join(cells)}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _tint(row: RankedTrial) -> str:
    if row.rank == 1:
        return "best"
    if row.is_default:
        return "own"
    return "" if row.is_usable else "bad"
