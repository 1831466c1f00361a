"""A study on Ray: every run a trainer of its own, as many at a time as there is room for.

A study is a fixed list of runs, so nothing is left for Ray Tune to decide: threads start trainers,
Ray's scheduler places their workers, and each run resumes by its name as any other run does.
"""

from collections.abc import Sequence

from mono3d.comparison.study import Planned, StudyDisplay, run_cells
from mono3d.comparison.study_record import StudyRecord
from mono3d.comparison.study_runs import Outcome, Study, conclude, prepare
from mono3d.comparison.variants import Cell
from mono3d.config.training_sections import ClusterConfig
from mono3d.tracking.tracker import RunIdentity
from mono3d.training.progress import ProgressSink
from mono3d.training.ray_session import places, ray_session
from mono3d.training.run_description import run_tags
from mono3d.training.run_record import RunResult
from mono3d.training.tracked import train_tracked
from mono3d.training.tracking import tracked_run


def study_on_ray(
    study: Study, record: StudyRecord, display: StudyDisplay, *, parallel: int | None = None
) -> Outcome:
    """Every run on Ray, side by side where the cluster has room, each with its record in MLflow.

    Args:
        study: What to do.
        record: Where results are.
        display: Who watches.
        parallel: Runs at a time; None is what fits the cluster as it is now.

    Raises:
        Mono3dError: Data cannot be read, results cannot be written, Ray cannot be used.
    """
    planned = prepare(study, record)
    cluster = _largest(study.cells)
    with (
        tracked_run(study.cells[0].config, _identity(study), folder=study.folder) as tracker,
        ray_session(cluster, has_dashboard=False),
    ):
        tracker.describe(study.note)

        def run(plan: Planned, sink: ProgressSink) -> RunResult:
            cell = plan.cell
            result, _ = train_tracked(
                cell.config,
                name=study.run_name(plan),
                sink=sink,
                recipe=study.recipe,
                parent=tracker,
                tags={"study": study.name, "variant": cell.variant, "seed": str(cell.seed)},
                exports_network=False,
            )
            return result

        room = places(cluster) if parallel is None else parallel
        results = run_cells(planned, study.spec, record, run, parallel=room, display=display)
        return conclude(study, record, results, tracker)


def _largest(cells: Sequence[Cell]) -> ClusterConfig:
    """The cluster settings of the run that needs most."""
    return max(
        (cell.config.cluster for cell in cells),
        key=lambda c: (c.workers * c.gpus_per_worker, c.workers * c.cpus_per_worker),
    )


def _identity(study: Study) -> RunIdentity:
    """Of the study's own record, above those of its runs.

    What may grow with a later call is a tag: MLflow never changes a param.
    """
    spec = study.spec
    seeds = sorted({cell.seed for cell in study.cells})
    first, *others = [run_tags(cell.config, study.recipe) for cell in study.cells]
    shared = {k: v for k, v in first.items() if all(tags.get(k) == v for tags in others)}
    return RunIdentity(
        # Not the study's name alone, which a run of its own may have.
        name=f"{study.name} (study)",
        params={"study.metric": f"{spec.metric} ({spec.mode})", "study.baseline": spec.baseline},
        tags={
            **shared,
            "study": study.name,
            "study.variants": ", ".join(spec.variants),
            "study.seeds": ", ".join(map(str, seeds)),
            "study.overrides": " ".join(study.overrides),
        },
    )
