"""`python -m tests.support.launch_tiny FOLDER`: a tiny run on Ray, to be killed by a test."""

import sys
import time
from pathlib import Path

from mono3d.config.schema import RunConfig
from mono3d.training.launch import launch
from mono3d.training.parts import Place, RunParts
from mono3d.training.progress import NoDisplay
from tests.support.training import tiny_config, tiny_parts

_PAUSE_S = 1.0
"""Makes an epoch's end long enough to be killed before the next step is done."""


class Printed(NoDisplay):
    def say(self, line: str) -> None:
        print(line, flush=True)


def slow_parts(config: RunConfig, place: Place) -> RunParts:
    parts = tiny_parts(config, place)
    original = parts.evaluate

    def evaluate(state):  # type: ignore[no-untyped-def]
        time.sleep(_PAUSE_S)
        return original(state)

    return RunParts(**{**vars(parts), "evaluate": evaluate})


if __name__ == "__main__":
    config = tiny_config(
        cluster__storage=str(Path(sys.argv[1]) / "runs"),
        cluster__workers=3,
        checkpoint__every_steps=2,
        checkpoint__metric="val/score",
        train__log_every_steps=1,
    )
    print(launch(config, name="tiny", sink=Printed(), build=slow_parts).last_checkpoint)
