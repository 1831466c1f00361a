"""What a study shows, in Markdown: the answer first, every cell after it."""

from collections.abc import Iterable, Mapping, Sequence

from mono3d.search.paired import LEVEL, Difference, less_is_better
from mono3d.search.study_metrics import in_words
from mono3d.search.study_record import CellResult
from mono3d.search.variants import StudySpec

_SMALL_FAMILY = 3
"""Seeds below which an interval says next to nothing."""


def write_report(
    spec: StudySpec,
    results: Sequence[CellResult],
    found: Mapping[str, Sequence[Difference]],
    weak: Sequence[str],
    *,
    title: str,
    command: str,
    figures: Iterable[str] = (),
) -> str:
    """The report of a study.

    Args:
        spec: What was compared.
        results: Of all runs that have been tried.
        found: Variant → differences, the declared metric's first.
        weak: Why the study does not count; empty where it does.
        title: Name of the study.
        command: That makes it.
        figures: File names to show.
    """
    parts = [
        [f"# {title}", "", spec.about.strip(), "", "```sh", command, "```"],
        ["## Answer", "", *answer(spec, found, weak)],
        _declared(spec, results, found),
        _arms(spec),
        _others(found),
        _everything(found),
        _failures(results),
        [f"![{name}]({name})" for name in figures],
        _method(),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def sentence(difference: Difference, *, is_weak: bool = False) -> str:
    """One difference in words, that claims no more than it shows."""
    name, metric = difference.variant, in_words(difference.metric)
    change = _change(difference)
    if difference.half_width is None:
        return f"{name}: {metric} {change} in one seed, which shows nothing."
    if is_weak:
        return f"{name}: {metric} {change}; not judged, since the baseline does not work."
    words = {
        "gain": "a gain",
        "loss": "a loss",
        "open": "not distinguishable from no difference",
    }
    return f"{name}: {metric} {change}: {words[difference.verdict]}."


def answer(
    spec: StudySpec, found: Mapping[str, Sequence[Difference]], weak: Sequence[str]
) -> list[str]:
    """What the declared metric says of each variant, a line each, and how far to trust it."""
    lines = [f"**This study does not count**: {reason}." for reason in weak]
    declared = [rows[0] for rows in found.values() if rows[0].metric == spec.metric]
    lines += [f"- {sentence(row, is_weak=bool(weak))}" for row in declared]
    if not declared:
        lines.append(f"No variant has {spec.metric} in the same seed as {spec.baseline} yet.")
    judged = [row for row in declared if row.half_width is not None]
    if judged and min(len(row.seeds) for row in judged) < _SMALL_FAMILY:
        lines += ["", "Two seeds: an interval of theirs is thirteen standard errors wide."]
    if len(judged) > 1:
        lines += [
            "",
            f"Each interval stands for itself: of {len(judged)} comparisons without any difference "
            f"{(1 - LEVEL) * len(judged):.2g} would be called one by chance.",
        ]
    return lines


def _declared(
    spec: StudySpec, results: Sequence[CellResult], found: Mapping[str, Sequence[Difference]]
) -> list[str]:
    """Every run's value of the declared metric, and the mean differences."""
    seeds = sorted({result.seed for result in results})
    values = {(r.variant, r.seed): r.metrics.get(spec.metric) for r in results}
    head = ["variant", *(f"seed {seed}" for seed in seeds), "mean", "difference", "verdict"]
    rows = []
    for name in spec.variants:
        own = [values.get((name, seed)) for seed in seeds]
        known = [value for value in own if value is not None]
        mean = sum(known) / len(known) if known else None
        row = next((d for d in found.get(name, ()) if d.metric == spec.metric), None)
        rows.append(
            [name, *map(_number, own), _number(mean)]
            + (["", ""] if row is None else [_change(row), row.verdict])
        )
    better = "less" if spec.mode == "min" else "more"
    return [f"## Declared metric: {spec.metric} ({better} is better)", "", *_table(head, rows)]


def _arms(spec: StudySpec) -> list[str]:
    rows = [
        [name, variant.about, ", ".join(f"`{text}`" for text in variant.settings)]
        for name, variant in spec.variants.items()
    ]
    return ["## Variants", "", *_table(["variant", "what it is", "settings"], rows)]


def _others(found: Mapping[str, Sequence[Difference]]) -> list[str]:
    lines = [
        f"- {sentence(row)}" for rows in found.values() for row in rows[1:] if row.verdict != "open"
    ]
    lines = lines or ["None of the other metrics differs after Holm's correction."]
    return ["## Other metrics, after Holm's correction", "", *lines]


def _everything(found: Mapping[str, Sequence[Difference]]) -> list[str]:
    lines = ["## All differences", ""]
    for name, rows in found.items():
        lines += [f"### {name}", ""]
        head = ["metric", "better", "baseline", "variant", "difference, 95 %", "p", "corrected p"]
        lines += _table(
            head,
            (
                [
                    in_words(row.metric),
                    "less" if less_is_better(row.metric) else "more",
                    _number(row.baseline),
                    _number(row.value),
                    _change(row),
                    _probability(row.p),
                    _probability(row.corrected_p),
                ]
                for row in rows
            ),
        )
        lines.append("")
    return lines[:-1]


def _failures(results: Sequence[CellResult]) -> list[str]:
    failed = [f"- {r.variant}, seed {r.seed}: {r.error}" for r in results if r.error is not None]
    return ["## Runs without a result", "", *failed] if failed else []


def _method() -> list[str]:
    return [
        "## Method",
        "",
        "Differences are between runs of equal seed, which see the same frames in the same order; "
        "values are those of the last evaluation, never of the best one. Intervals are Student's, "
        "of 95 %. The declared metric was named before the runs; the others are corrected by "
        "Holm's method within each variant. Where the interval holds zero there is no verdict.",
    ]


def _change(row: Difference) -> str:
    """`-0.012 ± 0.008`, and in per cent of the baseline."""
    text = f"{row.mean:+.4f}"
    if row.half_width is not None:
        text += f" ± {row.half_width:.4f}"
    return text + (f" ({100 * row.mean / row.baseline:+.1f} %)" if row.baseline else "")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _probability(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 1e-3 else f"{value:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
