"""Which pictures a search has, what each says, and why one is missing; written as files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from matplotlib.figure import Figure

from mono3d.evaluation.figures import write_png
from mono3d.search.report import interactive, interactive_knobs, png, png_knobs
from mono3d.search.report.importance import LEAST_FORETOLD, LEAST_OF_FEW
from mono3d.search.report.knobs import Knob
from mono3d.search.report.page import Section, write_page
from mono3d.search.report.view import SearchView

PAGE = "search.html"


@dataclass(frozen=True, kw_only=True)
class SearchFigure:
    """One picture of a search, still and interactive."""

    name: str
    """Of its file, without the ending."""
    title: str
    reading: str
    """How to read it, and what it stands on."""
    still: Figure
    interactive: go.Figure
    handling: str
    """What can be done with the interactive one."""


@dataclass(frozen=True, kw_only=True)
class SearchFigures:
    """All pictures of a search."""

    drawn: tuple[SearchFigure, ...]
    left_out: Mapping[str, str]
    """Title of what could not be drawn → why."""


@dataclass(frozen=True)
class _Kind:
    name: str
    title: str
    still: Callable[[SearchView], Figure]
    interactive: Callable[[SearchView], go.Figure]
    reading: Callable[[SearchView], str]
    missing: Callable[[SearchView], str | None]
    handling: str = "Point at a mark for its trial; drag to zoom, double click to see all."


def search_figures(view: SearchView) -> SearchFigures:
    """Draw what can be drawn."""
    drawn: list[SearchFigure] = []
    left_out: dict[str, str] = {}
    for kind in _KINDS:
        if kind.name == "pareto_front" and len(view.goals) == 1:
            continue
        if reason := kind.missing(view):
            left_out[kind.title] = reason
            continue
        drawn.append(
            SearchFigure(
                name=kind.name,
                title=kind.title,
                reading=kind.reading(view),
                still=kind.still(view),
                interactive=kind.interactive(view),
                handling=kind.handling,
            )
        )
    return SearchFigures(drawn=tuple(drawn), left_out=left_out)


def write_figures(
    figures: SearchFigures, view: SearchView, folder: Path, *, title: str, answer: Sequence[str]
) -> tuple[Path, ...]:
    """Write a PNG file each, and one page with all interactive ones; what is there goes.

    Returns:
        The PNG files, and last the page.
    """
    paths = []
    for kind in _KINDS:
        (folder / f"{kind.name}.png").unlink(missing_ok=True)
    for figure in figures.drawn:
        paths.append(folder / f"{figure.name}.png")
        write_png(figure.still, paths[-1])
    sections = [
        Section(f.name, f.title, f"{f.reading} {f.handling}", f.interactive) for f in figures.drawn
    ]
    page = folder / PAGE
    write_page(page, view, title=title, answer=answer, sections=sections, left_out=figures.left_out)
    return (*paths, page)


def _read_history(view: SearchView) -> str:
    said = (
        "A dot is a trial's result, in the order in which trials were begun; the line is the best "
        "until then."
    )
    if view.in_state("stopped early"):
        said += " Crosses were stopped early and stand at what they last reported."
    if any(row.spread for row in view.usable):
        said += " Bars are ± one standard deviation over the seeds."
    return said + _beyond(view)


def _read_parallel_coordinates(view: SearchView) -> str:
    most = png_knobs.MAX_AXES - len(view.goals)
    said = "A line is a trial, from its result through its settings; " + (
        "the darker, the better." if len(view.goals) == 1 else "Pareto-optimal ones are red."
    )
    if any(knob.name not in row.params for knob in view.knobs for row in view.usable):
        said += " A trial that does not have a setting passes below its axis."
    shown = len(view.foremost(most))
    tried = len(view.foremost(len(view.knobs)))
    if shown < tried:
        said += f" The picture has the {shown} foremost of {tried} settings."
    return said + _beyond(view)


def _read_importances(view: SearchView) -> str:
    said = (
        "A bar is the share of the variance between finished trials that a setting makes alone "
        "(fANOVA); what is missing to 100 % is made by combinations, and a setting that is the "
        "only one has 100 % whatever it does. Foretold is the share of the variance of trials it "
        f"has not seen that such a forest explains: with less than {100 * LEAST_FORETOLD:.0f} % "
        f"({100 * LEAST_OF_FEW:.0f} % of few trials) the bars are grey, no better than noise."
    )
    if any(group.branch for report in view.importances for group in report.groups):
        said += " Settings that only some trials have are judged among these, if they are enough."
    if view.in_state("stopped early"):
        said += " Trials stopped early do not count, so what makes bad ones bad is understated."
    return said


def _read_slices(view: SearchView) -> str:
    said = (
        "A dot is a finished trial, darker the later it was begun; ringed ones are "
        + ("the best" if len(view.goals) == 1 else "Pareto-optimal")
        + ". An axis is as wide as the search's range: an optimum at its end asks for a wider one."
    )
    if view.in_state("stopped early"):
        said += " Red strokes are trials stopped early, which have no result."
    most = png_knobs.MAX_PANELS // len(view.goals)
    tried = len(view.foremost(len(view.knobs)))
    if tried > most:
        said += f" The picture has the {most} foremost of {tried} settings."
    return said + _beyond(view)


def _read_learning_curves(view: SearchView) -> str:
    repeats = max((len(row.repeats) for row in view.rows), default=0)
    said = (
        "A line is what a trial reported after each evaluation; those that end early were stopped "
        "or failed."
    )
    if repeats > 1:
        said += " They are values of single runs; results are means over seeds."
    return said


def _read_pareto_front(view: SearchView) -> str:
    said = "No other trial is as good as a dark one in all objectives and better in one."
    if len(view.goals) > 2:
        said += " Each panel has two objectives: a dark dot that looks beaten is better in another."
    pairs = len(view.goals) * (len(view.goals) - 1) // 2
    if pairs > png.MAX_PAIRS:
        said += f" The picture has {png.MAX_PAIRS} of {pairs} pairs."
    return said + _beyond(view)


def _beyond(view: SearchView) -> str:
    count = max(view.limits(index).num_beyond for index in range(len(view.goals)))
    if not count:
        return ""
    return f" {count} far worse {'result lies' if count == 1 else 'results lie'} at an axis' end."


def _lacks_results(view: SearchView) -> str | None:
    return None if view.usable else "no trial has a result yet"


def _lacks_settings(view: SearchView) -> str | None:
    if len(view.usable) < 2:
        return "fewer than two trials have a result"
    return None if _tried(view) else "no setting differs between the finished trials"


def _tried(view: SearchView) -> list[Knob]:
    return view.foremost(len(view.knobs))


def _lacks_importances(view: SearchView) -> str | None:
    if any(report.groups for report in view.importances):
        return None
    return next(reason for report in view.importances for reason in report.left_out.values())


def _lacks_curves(view: SearchView) -> str | None:
    if len(view.goals) > 1:
        return "with several objectives nothing is reported on the way"
    if any(len(epochs) > 1 for _, epochs, _ in view.curves()):
        return None
    return "no trial reported values of two epochs"


_KINDS = (
    _Kind(
        "history",
        "History",
        png.history,
        interactive.history,
        _read_history,
        _lacks_results,
    ),
    _Kind(
        "pareto_front",
        "Pareto front",
        png.pareto_front,
        interactive.pareto_front,
        _read_pareto_front,
        _lacks_results,
    ),
    _Kind(
        "importances",
        "Importances",
        png_knobs.importances,
        interactive_knobs.importances,
        _read_importances,
        _lacks_importances,
        handling="",
    ),
    _Kind(
        "slices",
        "Slices: results by setting",
        png_knobs.slices,
        interactive_knobs.slices,
        _read_slices,
        _lacks_settings,
    ),
    _Kind(
        "parallel_coordinates",
        "Parallel coordinates: all settings at once",
        png_knobs.parallel_coordinates,
        interactive_knobs.parallel_coordinates,
        _read_parallel_coordinates,
        _lacks_settings,
        handling="Drag along an axis to keep only the lines through that part of it, click the "
        "axis to see all again; drag its name to move it.",
    ),
    _Kind(
        "learning_curves",
        "Learning curves",
        png.learning_curves,
        interactive.learning_curves,
        _read_learning_curves,
        _lacks_curves,
    ),
)
