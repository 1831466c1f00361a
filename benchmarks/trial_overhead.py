"""What does a trial of a search cost beside its training?

    .venv/bin/python -m benchmarks.trial_overhead

Four trials, one after the other, of the demo's recipe shrunk to two short epochs, without MLflow.
The first trial also starts the actor that all of them share. The peer is the same run in one
process that has imported everything (`mono3d train --local`). Times are of the wall: most of what
a trial waits for are processes that import PyTorch, one after the other.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.support.data import recipe_on, synthetic_folder
from benchmarks.support.rows import Row, publish
from mono3d.config.schema import RunConfig
from mono3d.search.database import open_database
from mono3d.search.record import Proposal, SearchRecord, create_search
from mono3d.search.settings import read_settings
from mono3d.search.space import Objective, Space, Suggest
from mono3d.search.space_walk import check_space
from mono3d.search.trial import TrialReport
from mono3d.search.tuner import search_on_ray
from mono3d.tracking.tracker import NullTracker
from mono3d.training.local import train_locally
from mono3d.training.progress import NoDisplay, Progress

METRIC = "val/centers_depth_abs_rel"
TRIALS = 4
_DRIVER_LIMIT = 0.1
"""CPU time of the driver to the time of a trial."""


def measure(root: Path) -> list[Row]:
    """A search, and its peer."""
    with tempfile.TemporaryDirectory() as folder:
        config = recipe_on(
            root.resolve(),
            "demo",
            "train.epochs=2",
            "train.epoch_frames=32",
            "train.log_every_steps=1",
            "evaluation.at_start=false",
            "evaluation.every_epochs=1",
            "evaluation.max_frames=8",
            "tracking.max_figures=0",
            "cluster.workers=1",
            f"cluster.storage={folder}/runs",
        )
        alone = _Steps()
        began = time.time()
        train_locally(config, name="alone", sink=alone)
        alone_s, first_alone_s = time.time() - began, alone.first_s - began
        watch = _Watch()
        cpu_s = time.process_time()
        search_on_ray(_search(config, Path(folder)), watch, parent=NullTracker(), parallel=1)
        cpu_s = (time.process_time() - cpu_s) / TRIALS
    first = [watch.first_step_s[n] - watch.began_s[n] for n in range(TRIALS)]
    whole = [watch.ended_s[n] - watch.began_s[n] for n in range(TRIALS)]
    later, wait = median(whole[1:]), median(first[1:])
    return [
        Row(
            name="a trial to the same run in one process",
            ratio=later / alone_s,
            detail=f"{later:.1f} s to {alone_s:.1f} s; the first one {whole[0]:.1f} s",
        ),
        Row(
            name="from its beginning to its first step",
            ratio=wait / first_alone_s,
            detail=f"{wait:.1f} s to {first_alone_s:.1f} s; of the first one {first[0]:.1f} s",
        ),
        Row(
            name="CPU time of the driver, to the time of a trial",
            ratio=cpu_s / later,
            target=_DRIVER_LIMIT,
            detail=f"{cpu_s:.2f} s",
        ),
    ]


def _search(config: RunConfig, folder: Path) -> SearchRecord:
    def draw(trial: Suggest) -> dict[str, object]:
        trial.suggest_float("optim.lr", 1e-3, 1e-2, log=True)
        return {}

    objective = Objective(metric=METRIC, mode="min")
    space = Space(source="-", digest="-", about="", objectives=(objective,), draw=draw)
    tree = config.model_dump(mode="json")
    settings = read_settings(
        {
            "recipe": "demo",
            "tree": tree,
            "command": "",
            "space": space.source,
            "space_digest": space.digest,
            "objectives": {METRIC: "min"},
            "sampler": "random",
            "scheduler": "none",
            "budget": {"trials": TRIALS},
        },
        source="benchmark",
    )
    storage = open_database(f"sqlite:///{folder / 'searches.db'}", creates=True)
    record = create_search(storage, "measured", settings)
    record.prepare(space, check_space(space, tree, source="demo"))
    return record


class _Steps(NoDisplay):
    """Remembers when the first step was done."""

    def __init__(self) -> None:
        self.first_s = 0.0

    def update(self, progress: Progress) -> None:
        if progress.record is not None and not self.first_s:
            self.first_s = progress.record.time_ms / 1000


class _Watch:
    """Remembers when trials began, took their first step and ended."""

    def __init__(self) -> None:
        self.began_s: dict[int, float] = {}
        self.first_step_s: dict[int, float] = {}
        self.ended_s: dict[int, float] = {}

    def began(self, proposal: Proposal) -> None:
        self.began_s[proposal.number] = time.time()

    def moved(self, report: TrialReport, value: float) -> None:
        self.first_step_s.setdefault(report.number, report.records[0].time_ms / 1000)

    def ended(self, number: int, state: str, value: float, reason: str) -> None:
        self.ended_s[number] = time.time()

    def say(self, line: str) -> None:
        pass


def main() -> int:
    """On the demo's synthetic world, smaller."""
    return publish("trial_overhead", measure(synthetic_folder((400, 224), scenes=8)))


if __name__ == "__main__":
    sys.exit(main())
