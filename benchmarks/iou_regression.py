"""How fast do boxes that follow an IoU loss reach their targets, and where does GCIoU lose?

    .venv/bin/python -m benchmarks.iou_regression

Each loss by each optimiser from each way to start wrong, at its own best rate of one grid: steps to
a mean IoU of 0.7 and of 0.9, medians over seeds with the least and the most. A star marks a best
rate at an end of the grid. `--quick` takes fewer boxes, seeds and steps; `--output` is a folder for
the table and the curves.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from benchmarks.support.box_regression import LOSSES, OPTIMISERS, REGIMES, Paths, draw, regress
from benchmarks.support.rows import Row, publish

THRESHOLDS = (0.7, 0.9)
OUTPUT = Path("runs/bench/iou_regression")
TARGET = 0.67
"""GCIoU's steps in those of another loss, by plain SGD from large yaw errors."""
_STYLES: Mapping[str, dict[str, Any]] = {
    "gciou": {"lw": 2.2, "color": "black"},
    "gciou, raw": {"lw": 1.2, "color": "black", "ls": "--"},
    "gciou, off": {"lw": 1.2, "color": "dimgrey", "ls": "-."},
    "gciou, tan": {"lw": 1.2, "color": "dimgrey", "ls": ":"},
}
Study = Mapping[str, Mapping[str, Paths]]
"""Regime → loss → paths."""


def study(*, boxes: int, seeds: int, steps: int) -> Study:
    """All losses from the same starts."""
    found: dict[str, dict[str, Paths]] = {}
    for name, regime in REGIMES.items():
        start, target = draw(regime, boxes, range(seeds))
        found[name] = {
            kind: regress(loss, start, target, steps=steps) for kind, loss in LOSSES.items()
        }
        print(f"{name}: done", file=sys.stderr)
    return found


def table(found: Study) -> str:
    """A Markdown table for each regime: a row for each loss, columns optimiser x threshold."""
    heads = [f"{name} {threshold:g}" for name in OPTIMISERS for threshold in THRESHOLDS]
    lines = []
    for regime, losses in found.items():
        start = next(iter(losses.values())).iou[0, 0, :, 0].mean()
        lines += [f"\n{regime}, from a mean IoU of {start:.2f}\n", _row("loss", heads)]
        lines.append(_row("---", ["---"] * len(heads)))
        lines += [_row(kind, _cells(paths)) for kind, paths in losses.items()]
    return "\n".join(lines) + "\n"


def _row(head: str, cells: Sequence[str]) -> str:
    return f"| {head} | {' | '.join(cells)} |"


def _cells(paths: Paths) -> list[str]:
    return [_cell(paths, i, at) for i in range(len(paths.optimisers)) for at in THRESHOLDS]


def _cell(paths: Paths, optimiser: int, threshold: float) -> str:
    """Median steps (least to most over seeds) at the best rate, or how high it comes in the end."""
    best = paths.best_rate(optimiser, threshold)
    steps = paths.steps_to(threshold)[optimiser, best]
    if not np.isfinite(np.median(steps)):
        return f"never ({paths.iou[optimiser, best, :, -1].mean():.2f})"
    at_end = "*" if best in {0, len(paths.rates) - 1} else ""
    return f"{np.median(steps):.0f} ({steps.min():.0f} to {steps.max():.0f}){at_end}"


def draw_curves(found: Study, file: Path) -> None:
    """Mean IoU by step at the best rate for 0.9: a column a regime, a row an optimiser."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    size = (3.2 * len(found), 2.5 * len(OPTIMISERS))
    figure, axes = plt.subplots(
        len(OPTIMISERS), len(found), figsize=size, sharey=True, layout="constrained"
    )
    for column, (regime, losses) in enumerate(found.items()):
        for row, optimiser in enumerate(OPTIMISERS):
            plot = axes[row, column]
            for kind, paths in losses.items():
                path = paths.iou[row, paths.best_rate(row, THRESHOLDS[-1])].mean(0)
                plot.plot(path, label=kind, **_STYLES.get(kind, {"lw": 1.2}))
            for threshold in THRESHOLDS:
                plot.axhline(threshold, color="grey", lw=0.5, ls=":")
            plot.set_xscale("symlog", linthresh=10)
            plot.set_xlim(0, len(path) - 1)
            plot.set_title(f"{regime}, {optimiser}", fontsize=9)
    figure.supxlabel("steps")
    figure.supylabel("mean IoU, at the best rate")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=9)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def rows(found: Study) -> list[Row]:
    """GCIoU against -ln IoU and DIoU where it should lead, and, without a target, elsewhere."""
    asked = [
        ("large yaw errors", "sgd", TARGET),
        ("large yaw errors", "adam", None),
        ("beyond overlap", "adam", None),
    ]
    return [
        _compare(found[regime], kind, regime, optimiser, threshold, target)
        for regime, optimiser, target in asked
        for kind in ("log_iou", "diou")
        for threshold in THRESHOLDS
        if _steps(found[regime][kind], optimiser, threshold) < np.inf
    ]


def _compare(
    losses: Mapping[str, Paths],
    kind: str,
    regime: str,
    optimiser: str,
    threshold: float,
    target: float | None,
) -> Row:
    ours, other = (_steps(losses[name], optimiser, threshold) for name in ("gciou", kind))
    return Row(
        name=f"GCIoU against {kind}, {regime}, {optimiser}, to {threshold:g}",
        ratio=ours / other,
        target=target,
        detail=f"{ours:g} steps, {kind} {other:g}",
    )


def _steps(paths: Paths, optimiser: str, threshold: float) -> float:
    """Median over seeds at the best rate."""
    row = paths.optimisers.index(optimiser)
    best = paths.best_rate(row, threshold)
    return float(np.median(paths.steps_to(threshold)[row, best]))


def main() -> int:
    """The table, the curves and the rows."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        found = study(boxes=12, seeds=2, steps=100)
    else:
        found = study(boxes=24, seeds=5, steps=300)
    options.output.mkdir(parents=True, exist_ok=True)
    text = table(found)
    (options.output / "table.md").write_text(text)
    draw_curves(found, options.output / "curves.png")
    print(text)
    print(f"curves: {options.output / 'curves.png'}")
    return publish("iou_regression", rows(found))


if __name__ == "__main__":
    sys.exit(main())
