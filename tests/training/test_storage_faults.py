"""What a run asks of its store, and what goes wrong with stores: every pair, and nothing is lost.

A lasting fault ends in one line in bounded time; what was stored before stays whole, what was on
its way is not seen, and the same call succeeds once the fault is gone. A passing one is waited for.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import torch

from mono3d.errors import StorageAwayError, StorageError
from mono3d.storage import patience, s3
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
from tests.support.s3_proxy import Fault, Harm, S3Proxy, s3_proxy
from tests.support.training import tiny_config

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

CONFIG = tiny_config()
WEIGHTS = "model.safetensors"
FOR_EVER = 10_000


@dataclass
class Run:
    """A run's folder in a store, as it is after its first checkpoint."""

    location: str
    local: Path
    lines: list[str] = field(default_factory=list)

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
HARMS: dict[Harm, str] = {
    "closed": "the connection was cut",
    "cut": "the connection was cut",
    "silent": "no answer in time",
    "500": "the store itself failed",
    "503": "the store itself failed",
    "403": "access denied",
}


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WAITS_S", (0.02,))
    monkeypatch.setattr(s3, "_ANSWER_S", 0.4)


@pytest.fixture
def run(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """Registered, with a whole checkpoint, and with an old one that may go."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    run = Run(location=f"{store}/faults/{name}", local=tmp_path)
    open_run(run.location, CONFIG)
    for step in (0, 1):
        run.upload(step)
    assert run.lines == []
    return run


@pytest.fixture
def proxy(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Between this process and the store."""
    with s3_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def assert_nothing_is_lost(run: Run) -> None:
    assert run.weight(1) == 1
    assert run.newest() == run.checkpoint(1)
    open_run(run.location, CONFIG)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_that_lasts(operation: str, harm: Harm, run: Run, proxy: S3Proxy) -> None:
    # A store that takes nothing more still gives.
    kinds = ("PUT", "POST", "DELETE") if harm == "403" else ("GET", "HEAD", "PUT", "POST", "DELETE")
    if harm == "403" and operation in {"find_newest", "load", "go_on"}:
        kinds = ("GET",)
    proxy.fault = Fault(harm, FOR_EVER, kinds)
    with pytest.raises(StorageError) as caught:
        OPERATIONS[operation](run)
    assert HARMS[harm] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert isinstance(caught.value, StorageAwayError) == (harm != "403")
    assert proxy.harmed
    proxy.fault = None
    assert_nothing_is_lost(run)
    OPERATIONS[operation](run)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_answers(operation: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(StorageAwayError, match="nobody answers there"):
            OPERATIONS[operation](run)
    assert_nothing_is_lost(run)
    OPERATIONS[operation](run)


@pytest.mark.parametrize("harm", [harm for harm in HARMS if harm != "403"])
@pytest.mark.parametrize("operation", PATIENT)
def test_a_fault_that_passes_is_waited_for(
    operation: str, harm: Harm, run: Run, proxy: S3Proxy
) -> None:
    proxy.fault = Fault(harm, 4)
    OPERATIONS[operation](run)
    assert proxy.harmed == 4
    assert any("trying again in" in line for line in run.lines)
    whole = run.checkpoint(1)  # that no fault of the store's makes a bad one
    assert not [line for line in run.lines if line.startswith(f"passed over: {whole}")]
    if operation != "upload":
        assert_nothing_is_lost(run)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_slow_store_is_only_slow(operation: str, run: Run, proxy: S3Proxy) -> None:
    proxy.fault = Fault("slow", FOR_EVER)
    OPERATIONS[operation](run)
    assert not [line for line in run.lines if "trying again" in line]
