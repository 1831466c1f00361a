"""`python -m tests.support.limited_memory FOLDER MIB PATH=VALUE...`: a run in so much memory.

0 is no limit. Prints the largest address space that was needed, in MiB.
"""

import resource
import sys
from dataclasses import replace
from pathlib import Path

from mono3d.config.load import parse_override
from mono3d.config.schema import RunConfig
from mono3d.errors import Mono3dError
from mono3d.training.evaluate import evaluate_split
from mono3d.training.local import train_locally
from mono3d.training.parts import Place, RunParts
from mono3d.training.state import TrainState
from tests.support.frames import FramesInMemory
from tests.support.training import tiny_config, tiny_parts


def evaluated_parts(config: RunConfig, place: Place) -> RunParts:
    """`tiny_parts`, evaluated on frames in memory."""
    frames = FramesInMemory(48)

    def evaluate(state: TrainState) -> dict[str, float]:
        student, limit = state.train_module.student, config.evaluation.max_frames
        return dict(
            evaluate_split(config, student, state.ema.values, frames, max_frames=limit).metrics
        )

    return replace(tiny_parts(config, place), evaluate=evaluate)


def peak_mib() -> int:
    """Largest address space of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith("VmPeak:"))
    return int(peak.split()[1]) // 1024


def main(folder: str, limit_mib: str, *overrides: str) -> None:
    config = tiny_config(
        cluster__storage=folder,
        train__epochs=1,
        input__image_height_px=256,
        input__image_width_px=384,
        **{path.replace(".", "__"): value for path, value in map(parse_override, overrides)},
    )
    if int(limit_mib):
        resource.setrlimit(resource.RLIMIT_AS, (int(limit_mib) << 20,) * 2)
    try:
        train_locally(config, name="run", build=evaluated_parts)
    except Mono3dError as error:
        sys.exit(str(error))
    print(peak_mib())


if __name__ == "__main__":
    main(*sys.argv[1:])
