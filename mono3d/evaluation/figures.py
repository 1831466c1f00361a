"""Figures of a run: depth errors by range, depth against depth, precision against recall.

Each function returns a matplotlib Figure of its own, without pyplot and its global state. Classes
have the colours of Paul Tol's "muted" scheme, which people who see colours differently can tell
apart, and a marker each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, PercentFormatter, ScalarFormatter
from numpy.typing import NDArray

from mono3d.evaluation.depth_quality import (
    RANGE_EDGES_M,
    DepthPairs,
    depth_errors,
    range_bands,
    visible_bands,
)
from mono3d.evaluation.drawing import say_empty
from mono3d.evaluation.precision_recall import PrecisionRecall

_CLASS_COLORS = (
    "#332288", "#44AA99", "#CC6677", "#999933", "#000000",
    "#AA4499", "#117733", "#88CCEE", "#882255", "#DDCC77",
)  # fmt: skip
_CLASS_MARKERS = "os^DvPX<>*"
_MIN_OBJECTS = 5
"""Below that, the mean error of a class in a range band is not worth a point."""
_DEPTH_LIMITS_M = (1.5, 120.0)
_DEPTH_TICKS_M = (2, 5, 10, 20, 50, 100)


def write_png(figure: Figure, path: Path) -> None:
    """The figure as a PNG file at 150 dots an inch, compressed in little time."""
    figure.savefig(path, dpi=150, format="png", pil_kwargs={"compress_level": 1})


def error_by_range_figure(pairs: DepthPairs, class_names: Sequence[str], title: str) -> Figure:
    """Mean relative depth error by range band: bars for all objects, lines for the classes."""
    names = [name.replace("_", "–").removesuffix("m") for name, _, _ in range_bands()]
    names[-1] = f"over {RANGE_EDGES_M[-2]:.0f}"
    bands = {
        name: (pairs.range_m >= near) & (pairs.range_m < far)
        for name, (_, near, far) in zip(names, range_bands(), strict=True)
    }
    return _error_by_band_figure(pairs, bands, class_names, title, "distance from the camera (m)")


def error_by_visibility_figure(pairs: DepthPairs, class_names: Sequence[str], title: str) -> Figure:
    """The same by how much of an object can be seen; those of which that is unknown are apart."""
    bands = {
        name.removeprefix("visible_").replace("_", "–"): (pairs.visibility >= least)
        & (pairs.visibility < most)
        for name, least, most in visible_bands()
    }
    unknown = np.isnan(pairs.visibility)
    if unknown.any():
        bands["unknown"] = unknown
    return _error_by_band_figure(pairs, bands, class_names, title, "visible share (%)")


def _error_by_band_figure(
    pairs: DepthPairs,
    bands: Mapping[str, Bool[NDArray[Any], " n"]],
    class_names: Sequence[str],
    title: str,
    xlabel: str,
) -> Figure:
    figure, axes = _plain_axes(title, xlabel, "mean relative depth error")
    is_found = np.isfinite(pairs.predicted_m)
    bands = {name: band & is_found for name, band in bands.items()}
    places = range(len(bands))
    errors = np.array([_abs_rel(pairs, band) for band in bands.values()])
    axes.bar(places, errors, width=0.8, color="0.87", label="all classes")
    for label, name in _classes_by_count(pairs.select(is_found), class_names):
        is_mine = pairs.labels == label
        own = [_abs_rel(pairs, band & is_mine, _MIN_OBJECTS) for band in bands.values()]
        if np.isfinite(own).any():
            axes.plot(places, own, ms=4.5, lw=1.4, label=name, **_style(label))
    axes.set_xticks(places, [f"{name}\nn = {band.sum()}" for name, band in bands.items()])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlim=(-0.5, len(bands) - 0.5), ylim=(0, None))
    axes.grid(visible=False, axis="x")
    _finish(axes, is_empty=not is_found.any())
    return figure


def depth_scatter_figure(pairs: DepthPairs, class_names: Sequence[str], title: str) -> Figure:
    """Predicted against true depth on logarithmic axes, with the band of 25 % error."""
    figure, axes = _plain_axes(title, "true depth (m)", "predicted depth (m)", size=(6.4, 4.6))
    found = pairs.select(np.isfinite(pairs.predicted_m))
    limits = np.array(_DEPTH_LIMITS_M)
    axes.fill_between(limits, limits / 1.25, limits * 1.25, color="0.92", label="within 25 %")
    size = float(np.clip(6000 / max(len(found), 1), 4, 20))
    for label, name in _classes_by_count(found, class_names):
        members = found.labels == label
        axes.scatter(
            found.true_m[members], found.predicted_m[members].clip(*_DEPTH_LIMITS_M), s=size,
            alpha=0.6, linewidths=0, label=name, rasterized=True, **_style(label),
        )  # fmt: skip
    axes.plot(limits, limits, color="0.3", linewidth=1, label="exact")
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(_DEPTH_TICKS_M))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    _finish(axes, is_empty=not len(found), markerscale=(20 / size) ** 0.5)
    return figure


def precision_recall_figure(curves: Mapping[str, PrecisionRecall], title: str) -> Figure:
    """One line a class, in the order of the mapping, with the average precision in the legend."""
    figure, axes = _plain_axes(title, "recall", "precision")
    for index, (name, curve) in enumerate(curves.items()):
        label = f"{curve.average_precision:.2f}  {_in_words(name)}"
        style = {**_style(index), "markevery": 0.1, "ms": 4.5}
        # Benchmarks pad their curves with zeros up to a recall of one.
        end = len(np.trim_zeros(curve.precision, "b")) + 1
        axes.plot(curve.recall[:end], curve.precision[:end], label=label, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    is_empty = not any(len(curve.recall) for curve in curves.values())
    _finish(axes, is_empty=is_empty, title="average precision")
    return figure


def _plain_axes(
    title: str, xlabel: str, ylabel: str, size: tuple[float, float] = (7.2, 4.2)
) -> tuple[Figure, Axes]:
    """A figure of one panel with a light grid; the legend has its place to the right."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(xlabel, fontsize=10)
    axes.set_ylabel(ylabel, fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finish(axes: Axes, *, is_empty: bool, **legend: Any) -> None:
    """The legend, and a word where there is nothing to see."""
    if axes.get_legend_handles_labels()[0]:
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        look = {"fontsize": 9, "title_fontsize": 9, "alignment": "left", "frameon": False}
        axes.legend(**place, **look, **legend)
    if is_empty:
        say_empty(axes)


def _classes_by_count(pairs: DepthPairs, class_names: Sequence[str]) -> list[tuple[int, str]]:
    """Classes that occur, the most frequent first."""
    counts = np.bincount(pairs.labels, minlength=len(class_names))
    order = np.argsort(-counts, kind="stable")
    return [(int(label), _in_words(class_names[label])) for label in order if counts[label]]


def _abs_rel(pairs: DepthPairs, members: Bool[NDArray[Any], " n"], at_least: int = 1) -> float:
    """Mean relative error of some of the pairs, NaN (nothing drawn) when they are too few."""
    if members.sum() < at_least:
        return np.nan
    return depth_errors(pairs.predicted_m[members], pairs.true_m[members])["abs_rel"]


def _in_words(class_name: str) -> str:
    """A class name to read."""
    return class_name.replace("_", " ")


def _style(index: int) -> dict[str, Any]:
    """Colour and marker of the class with this index; ten classes have one of their own."""
    index %= len(_CLASS_COLORS)
    return {"color": _CLASS_COLORS[index], "marker": _CLASS_MARKERS[index]}
