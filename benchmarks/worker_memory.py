"""How much memory does a training worker of the demo need?

    .venv/bin/python -m benchmarks.worker_memory

The largest resident set of each of the demo's two Ray workers, from its start through training,
checkpoint and evaluation, against the limit.
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.support.data import recipe_on, synthetic_folder
from benchmarks.support.rows import Row, publish
from mono3d.config.schema import RunConfig
from mono3d.training.launch import launch
from mono3d.training.parts import Place, RunParts, build_parts
from mono3d.training.state import EvaluateState, TrainState

LIMIT_GIB = 2.0


def measure(root: Path, *, frames: int) -> list[Row]:
    """One epoch of `frames`, evaluated before and after."""
    with tempfile.TemporaryDirectory() as folder:
        config = recipe_on(
            root.resolve(),
            "demo",
            "train.epochs=1",
            f"train.epoch_frames={frames}",
            "evaluation.every_epochs=1",
            f"cluster.storage={folder}/runs",
        )
        launch(config, name="measured", build=_WatchedParts(Path(folder)))
        peaks_gib = [float(path.read_text()) for path in sorted(Path(folder).glob("*.gib"))]
    assert len(peaks_gib) == config.cluster.workers
    return [
        Row(
            name=f"peak memory of a worker of the demo, of {LIMIT_GIB:g} GiB",
            ratio=max(peaks_gib) / LIMIT_GIB,
            target=1.0,
            detail=" and ".join(f"{gib:.2f} GiB" for gib in peaks_gib),
        )
    ]


@dataclass(frozen=True)
class _WatchedParts:
    """The run's own parts; each rank notes its peak after every evaluation."""

    folder: Path

    def __call__(self, config: RunConfig, place: Place) -> RunParts:
        parts = build_parts(config, place)
        note = self.folder / f"{place.rank}.gib"
        return replace(parts, evaluate=_Watched(parts.evaluate, note))


@dataclass(frozen=True)
class _Watched:
    evaluate: EvaluateState
    note: Path

    def __call__(self, state: TrainState) -> dict[str, float]:
        metrics = self.evaluate(state)
        self.note.write_text(str(_peak_gib()))
        return metrics


def _peak_gib() -> float:
    """Of this process so far."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**20


def main() -> int:
    """Fifteen steps."""
    return publish("worker_memory", measure(synthetic_folder((400, 224), scenes=24), frames=240))


if __name__ == "__main__":
    sys.exit(main())
