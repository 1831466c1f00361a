"""A study from its plan to its report; here in one process, on Ray in `study_on_ray`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mono3d.evaluation.figures import write_png
from mono3d.search.paired import Difference
from mono3d.search.study import (
    Fingerprints,
    StudyDisplay,
    differences,
    run_cells,
    weaknesses,
)
from mono3d.search.study_figures import differences_figure
from mono3d.search.study_record import CellResult, StudyRecord
from mono3d.search.study_report import answer, write_report
from mono3d.search.variants import Cell, StudySpec
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.tracker import NullTracker, Tracker
from mono3d.training.local import train_locally
from mono3d.training.progress import ProgressSink
from mono3d.training.run_record import RUNS_FOLDER, RunResult, run_location

_HEADLINES = (
    "nuscenes_map", "nuscenes_nds", "nuscenes_mate", "kitti_Car_3d_moderate",
    "kitti_Car_bev_moderate", "centers_depth_abs_rel", "matched_depth_recall",
    "matched_depth_recall_visible_0_40", "matched_depth_recall_50m_up",
)  # fmt: skip
REPORT = "report.md"


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
        for cell in self.cells:
            run_location(cell.config, self.run_name(cell))

    def run_name(self, cell: Cell) -> str:
        """Of a run, on storage and in MLflow."""
        return f"{self.name}-{cell.label}"

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


def study_locally(study: Study, record: StudyRecord, display: StudyDisplay) -> Outcome:
    """One run after the other in this process, without Ray, MLflow and S3.

    Raises:
        Mono3dError: Data cannot be read, results cannot be written, a run's storage is elsewhere.
    """

    def run(cell: Cell, sink: ProgressSink) -> RunResult:
        return train_locally(cell.config, name=study.run_name(cell), sink=sink)

    results = run_cells(
        study.cells, record, run, parallel=1, display=display, fingerprint_of=Fingerprints()
    )
    return conclude(study, record, results, NullTracker())


def conclude(
    study: Study, record: StudyRecord, results: Sequence[CellResult], tracker: Tracker
) -> Outcome:
    """Compare, draw, write the report, and put all of it on the study's record.

    Raises:
        DataError: The results cannot be written.
    """
    spec = study.spec
    found, weak = differences(spec, results), weaknesses(spec, results)
    study.folder.mkdir(parents=True, exist_ok=True)
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
    tracker.set_tags({"mlflow.note.content": _note(study, found, weak), "failed_runs": str(failed)})
    return Outcome(
        results=results,
        differences=found,
        weaknesses=weak,
        report=report,
        figures=figures,
        run_id=tracker.run_id,
    )


def _note(study: Study, found: Mapping[str, Sequence[Difference]], weak: Sequence[str]) -> str:
    """What the study's page in MLflow says: question, command and answer."""
    return "\n\n".join(
        [study.spec.about, f"```\n{study.command}\n```", "\n".join(answer(study.spec, found, weak))]
    )


def _draw(study: Study, found: Mapping[str, Sequence[Difference]]) -> list[Path]:
    if not found:
        return []
    metrics = list(dict.fromkeys(row.metric for rows in found.values() for row in rows))
    errors = [m for m in metrics if "centers_depth_abs_rel_" in m]
    headlines = [m for m in metrics if m.rpartition("/")[2] in _HEADLINES or m == study.spec.metric]
    pages = {
        "differences": headlines,
        "depth_error_by_range": [m for m in errors if m.endswith(("m", "m_up"))],
        "depth_error_by_visibility": [m for m in errors if "_visible_" in m],
        "depth_error_by_class": [
            m for m in errors if "_visible_" not in m and not m.endswith(("m", "m_up"))
        ],
    }
    paths = []
    for name, shown in pages.items():
        if shown:
            title = f"{study.name}: difference to {study.spec.baseline}, 95 % intervals"
            paths.append(study.folder / f"{name}.png")
            write_png(differences_figure(found, shown, title), paths[-1])
    return paths


def _headline_record(found: Mapping[str, Sequence[Difference]]) -> MetricRecord:
    """The declared metric's differences, as the parent run's metrics."""
    values: dict[str, float] = {}
    for name, rows in found.items():
        values |= {f"difference/{name}": rows[0].mean}
        if rows[0].half_width is not None:
            values |= {
                f"difference_low/{name}": rows[0].low,
                f"difference_high/{name}": rows[0].high,
            }
    return MetricRecord(step=0, time_ms=int(time.time() * 1000), metrics=values)
