"""What a study shows, in Markdown: the answer first, every cell after it."""

from collections.abc import Iterable, Mapping, Sequence

from mono3d.comparison.paired import LEVEL, Difference, declared_of
from mono3d.comparison.study_metrics import in_words
from mono3d.comparison.study_record import CellResult
from mono3d.comparison.variants import StudySpec

_FEW_SEEDS = 3
"""Below which an interval says next to nothing."""


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
        [] if weak else _others(found),
        _everything(found),
        _failures(results),
        [f"![{name}]({name})" for name in figures],
        _method(),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def sentence(row: Difference, *, is_weak: bool = False) -> str:
    """One difference in words, that claims no more than it shows.

    Args:
        row: The difference.
        is_weak: Whether the baseline does not work.
    """
    seeds = f"in {len(row.seeds)} seed{'s' if len(row.seeds) > 1 else ''}"
    said = f"{row.variant}: {in_words(row.metric)} {_change(row)} {seeds}"
    if is_weak:
        return f"{said}; not judged, since the baseline does not work."
    if row.half_width is None:
        return f"{said}, which shows nothing."
    words = {"gain": "a gain", "loss": "a loss", "open": "not distinguishable from no difference"}
    return f"{said}: {words[row.verdict]}."


def answer(
    spec: StudySpec, found: Mapping[str, Sequence[Difference]], weak: Sequence[str]
) -> list[str]:
    """What the declared metric says of each variant, a line each, and how far to trust it."""
    lines = [f"**This study does not count**: {reason}." for reason in weak]
    rows = [row for row in map(declared_of, found.values()) if row is not None]
    lines += [f"- {sentence(row, is_weak=bool(weak))}" for row in rows]
    if not rows:
        lines.append(f"No variant has {spec.metric} in the same seed as {spec.baseline} yet.")
    judged = [row for row in rows if row.half_width is not None and not weak]
    if judged and min(len(row.seeds) for row in judged) < _FEW_SEEDS:
        lines += ["", "An interval from two seeds is 25 standard errors wide: it shows little."]
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
        row = declared_of(found.get(name, ()))
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
        f"- {sentence(row)}"
        for rows in found.values()
        for row in rows
        if row.verdict != "open" and not row.is_declared
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
                    "less" if row.less_is_better else "more",
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
