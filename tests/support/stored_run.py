"""A run's folder in a store, and what a run asks of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from mono3d.storage.location import delete_directory, join, list_files, upload_directory
from mono3d.storage.patience import patiently
from mono3d.training.checkpoint import first_whole
from mono3d.training.checkpoint_files import (
    MANIFEST,
    new_directory,
    read_tensors,
    verified_copy,
    write_tensors,
)
from mono3d.training.run_record import RunResult, close_run, open_run, read_result
from tests.support.training import tiny_config

CONFIG = tiny_config()
WEIGHTS = "model.safetensors"


@dataclass
class Run:
    """A folder at a location, from what a worker has on its own disk."""

    location: str
    local: Path
    lines: list[str] = field(default_factory=list)

    def begin(self) -> "Run":
        """Registered, with a whole checkpoint, and with an old one that may go."""
        open_run(self.location, CONFIG)
        for step in (0, 1):
            self.upload(step)
        assert self.lines == []
        return self

    def assert_nothing_is_lost(self) -> None:
        """Its first checkpoint is what a run would go on from."""
        assert self.weight(1) == 1
        assert self.newest() == self.checkpoint(1)
        open_run(self.location, CONFIG)

    def checkpoint(self, step: int) -> str:
        return join(self.location, f"checkpoints/step_{step}")

    def write(self, step: int) -> Path:
        directory = self.local / f"step_{step}"
        with new_directory(directory) as part:
            write_tensors({"weight": torch.full((64, 1024), float(step))}, part / WEIGHTS)
            (part / "state.json").write_text("{}")
        return directory

    def upload(self, step: int) -> None:
        target = self.checkpoint(step)
        upload_directory(self.write(step), target, last=MANIFEST, say=self.lines.append)

    def newest(self) -> str | None:
        found = [self.checkpoint(step) for step in (2, 1)]
        return first_whole(found, self.lines.append)

    def weight(self, step: int) -> float:
        with verified_copy(self.checkpoint(step)) as directory:
            return float(read_tensors(directory / WEIGHTS)["weight"].mean())


def upload(run: Run) -> None:
    run.upload(2)
    assert run.weight(2) == 2


def find_newest(run: Run) -> None:
    assert patiently(run.newest, run.lines.append) == run.checkpoint(1)


def load(run: Run) -> None:
    assert patiently(partial(run.weight, 1), run.lines.append) == 1


def register(run: Run) -> None:
    assert open_run(join(run.location, "another"), CONFIG) is None


def go_on(run: Run) -> None:
    assert open_run(run.location, CONFIG) is None


def close(run: Run) -> None:
    result = RunResult(
        name="run", steps=1, metrics={}, best_checkpoint=run.checkpoint(1),
        last_checkpoint=run.checkpoint(1),
    )  # fmt: skip
    patiently(partial(close_run, run.location, result), run.lines.append)
    assert read_result(run.location) == result


def prune(run: Run) -> None:
    delete_directory(run.checkpoint(0))
    assert list_files(run.checkpoint(0)) == []


OPERATIONS: dict[str, Callable[[Run], None]] = {
    function.__name__: function
    for function in (upload, find_newest, load, register, go_on, close, prune)
}
PATIENT = ("upload", "find_newest", "load", "close")
"""What would lose work; the others come before any was done, or are done again later."""
