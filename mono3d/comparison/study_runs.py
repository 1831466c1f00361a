"""A study from its plan to its report; here in one process, on Ray in `study_on_ray`."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mono3d.comparison.paired import Difference, declared_of
from mono3d.comparison.study import (
    Planned,
    StudyDisplay,
    differences,
    identify,
    known_results,
    run_cells,
    weaknesses,
)
from mono3d.comparison.study_figures import differences_figure
from mono3d.comparison.study_metrics import is_headline
from mono3d.comparison.study_record import CellResult, StudyRecord
from mono3d.comparison.study_report import answer, write_report
from mono3d.comparison.variants import Cell, StudySpec
from mono3d.errors import ConfigError, DataError
from mono3d.evaluation.figures import write_png
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.tracker import NullTracker, Tracker
from mono3d.training.local import train_locally
from mono3d.training.progress import ProgressSink
from mono3d.training.run_record import RUNS_FOLDER, RunResult, run_location

REPORT = "report.md"
_DIGITS = 6
_BAND = re.compile(r"_\d+(_\d+m|m_up)$")


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is to be done.

    Raises:
        ConfigError: The name, with what its runs add to it, could not be that of a folder.
    """

    name: str
    recipe: str
    overrides: Sequence[str]
    spec: StudySpec
    cells: Sequence[Cell]
    command: str
    """That makes it, for the report."""

    def __post_init__(self) -> None:
        """Every run can have its name."""
        run_location(self.cells[0].config, self.name)
        for cell in self.cells:
            run_location(cell.config, f"{self.name}-{cell.label}-{'0' * _DIGITS}")

    def run_name(self, plan: Planned) -> str:
        """Of a run, on storage and in MLflow: of another config or other data it is another."""
        return f"{self.name}-{plan.cell.label}-{plan.identity.digest[:_DIGITS]}"

    @property
    def note(self) -> str:
        """What it asks, and how."""
        return f"{self.spec.about}\n\n```\n{self.command}\n```"

    @property
    def folder(self) -> Path:
        """Of results, report and figures."""
        return RUNS_FOLDER / self.name


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a study."""

    results: Sequence[CellResult]
    differences: Mapping[str, Sequence[Difference]]
    weaknesses: Sequence[str]
    report: Path
    figures: Sequence[Path]
    run_id: str | None
    """Of the parent run in MLflow."""


def prepare(study: Study, record: StudyRecord) -> list[Planned]:
    """Open the data, then write down what is to be done.

    Raises:
        Mono3dError: Data cannot be read, results cannot be written.
    """
    planned = identify(study.cells)
    _describe(study, record)
    return planned


def _describe(study: Study, record: StudyRecord) -> None:
    spec = study.spec
    record.describe(
        study=study.name,
        recipe=study.recipe,
        overrides=list(study.overrides),
        metric=spec.metric,
        baseline=spec.baseline,
        variants={
            name: {"about": variant.about, "settings": variant.settings}
            for name, variant in spec.variants.items()
        },
    )


def study_locally(study: Study, record: StudyRecord, display: StudyDisplay) -> Outcome:
    """One run after the other in this process, without Ray, MLflow and S3.

    Raises:
        Mono3dError: Data cannot be read, results cannot be written, a run's storage is elsewhere or
            asks for several workers.
    """
    for cell in study.cells:
        if cell.config.cluster.workers > 1:  # another batch and rate than on Ray
            raise ConfigError(
                f"cluster.workers={cell.config.cluster.workers}: --local has one; set it to 1"
            )

    def run(plan: Planned, sink: ProgressSink) -> RunResult:
        return train_locally(plan.cell.config, name=study.run_name(plan), sink=sink)

    planned = prepare(study, record)
    results = run_cells(planned, study.spec, record, run, parallel=1, display=display)
    return conclude(study, record, results, NullTracker())


def report_known(study: Study, record: StudyRecord) -> Outcome:
    """The report of the results that are there; nothing is run and no data are opened.

    Raises:
        ConfigError: There is no such file, or its runs are of several data sets.
        DataError: The results cannot be written.
    """
    if not record.path.exists():
        raise ConfigError(f"{record.path}: there are no results to report")
    known = known_results(study.cells, record)
    _describe(study, record)
    return conclude(study, record, known, NullTracker())


def conclude(
    study: Study, record: StudyRecord, results: Sequence[CellResult], tracker: Tracker
) -> Outcome:
    """Compare, draw, write the report, and put all of it on the study's record.

    Raises:
        DataError: The results cannot be written.
    """
    spec = study.spec
    found, weak = differences(spec, results), weaknesses(spec, results)
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{study.folder}: cannot be made ({error.strerror})") from error
    figures = _draw(study, found)
    text = write_report(
        spec,
        results,
        found,
        weak,
        title=study.name,
        command=study.command,
        figures=[path.name for path in figures],
    )
    report = study.folder / REPORT
    report.write_text(text)
    record.describe(
        comparison={name: [asdict(row) for row in rows] for name, rows in found.items()},
        weaknesses=list(weak),
    )
    for path in (report, record.path, *figures):
        tracker.log_artifact(path, "study")
    tracker.log_metrics([_headline_record(found)])
    failed = sum(result.error is not None for result in results)
    tracker.set_tags({"failed_runs": str(failed)})
    # MLflow folds all but the first lines: the answer comes first.
    tracker.describe("\n".join([*answer(spec, found, weak), "", study.note]))
    return Outcome(
        results=results,
        differences=found,
        weaknesses=weak,
        report=report,
        figures=figures,
        run_id=tracker.run_id,
    )


def _draw(study: Study, found: Mapping[str, Sequence[Difference]]) -> list[Path]:
    if not found:
        return []
    metrics = list(dict.fromkeys(row.metric for rows in found.values() for row in rows))
    errors = [m for m in metrics if "centers_depth_abs_rel_" in m]
    headlines = [m for m in metrics if is_headline(m) or m == study.spec.metric]
    pages = {
        "differences": headlines,
        "depth_error_by_range": [m for m in errors if _BAND.search(m)],
        "depth_error_by_visibility": [m for m in errors if "_visible_" in m],
        "depth_error_by_class": [m for m in errors if "_visible_" not in m and not _BAND.search(m)],
    }
    paths = []
    for name, shown in pages.items():
        if shown:
            title = f"{study.name}: difference to {study.spec.baseline}, 95 % intervals"
            paths.append(study.folder / f"{name}.png")
            write_png(differences_figure(found, shown, title), paths[-1])
    return paths


def _headline_record(found: Mapping[str, Sequence[Difference]]) -> MetricRecord:
    """The declared metric's differences, as the parent run's metrics.

    Steps are seconds: what a later call finds comes after what is there.
    """
    now_ms = int(time.time() * 1000)
    values: dict[str, float] = {}
    for name, rows in found.items():
        row = declared_of(rows)
        if row is not None:
            values[f"difference/{name}"] = row.mean
            if row.half_width is not None:
                values |= {f"difference_low/{name}": row.low, f"difference_high/{name}": row.high}
    return MetricRecord(step=now_ms // 1000, time_ms=now_ms, metrics=values)
