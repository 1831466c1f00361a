"""Three processes over gloo, one of them killed in the middle of an epoch."""

import json
import multiprocessing
import os
import signal
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mono3d.config.schema import RunConfig
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.spool import Spool
from mono3d.training.checkpoint import first_whole, load_checkpoint, read_metadata
from mono3d.training.distributed import distribute, share_buffers
from mono3d.training.local import LocalKeeper
from mono3d.training.loop import fit
from mono3d.training.parts import Place, RunParts
from mono3d.training.progress import NoDisplay
from mono3d.training.recorder import RunRecorder
from mono3d.training.state import TrainState
from tests.support.training import save_untrained, state_digests, tiny_config, tiny_parts

pytestmark = pytest.mark.slow

WORLD_SIZE = 3
STEPS = 8
"""Two epochs of 48 frames; a step takes 2 micro-batches of 2 frames on each of 3 ranks."""
SAVED_AT, DIES_AT = 6, 7
SETTINGS = {
    "checkpoint__every_steps": 2, "checkpoint__metric": "val/score", "train__log_every_steps": 1,
}  # fmt: skip
RESULTS = ("model.safetensors", "ema.safetensors", "optimiser.safetensors")


class Follower:
    """What rank 1 and 2 do; one of them may be killed after a step."""

    def __init__(self, dies_at: int | None) -> None:
        self._dies_at = dies_at

    def on_records(self, state: TrainState, record: MetricRecord) -> None:
        if record.step == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_evaluate(self, state: TrainState) -> None:
        pass

    def on_save(
        self, state: TrainState, metrics: Mapping[str, float], *, epoch_ended: bool
    ) -> None:
        pass


def recorder(folder: Path, parts: RunParts, config: RunConfig) -> RunRecorder:
    keeper = LocalKeeper(folder, parts.facts, config.checkpoint)
    spool = Spool(folder / "metrics.jsonl")
    return RunRecorder(spool, total_steps=STEPS, emit=NoDisplay().update, keep=keeper.keep)


def train_rank(
    rank: int, folder: Path, config: RunConfig, attempt: int, dies_at: int | None
) -> None:
    """One process of a run, from its last checkpoint if there is one."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous-{attempt}",
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=60),
    )
    parts = tiny_parts(config, Place(rank=rank, world_size=WORLD_SIZE))
    distribute(parts.state, parts.loader)
    latest = first_whole(sorted((folder / "checkpoints").glob("step_*"), reverse=True), print)
    if latest is not None:
        load_checkpoint(latest, parts.state)
    dist.barrier()
    observer = (
        recorder(folder, parts, config) if rank == 0 else Follower(dies_at if rank == 1 else None)
    )
    fit(parts.state, parts.loader, parts.plan, evaluate=parts.evaluate, observer=observer)
    share_buffers(parts.state)
    digests = state_digests(parts.state)
    held = {name: digests[name] for name in ("ema", "optimiser")}
    (folder / f"rank-{rank}.json").write_text(json.dumps(held))
    dist.destroy_process_group()


def run(
    folder: Path, config: RunConfig, attempt: int, dies_at: int | None = None
) -> list[int | None]:
    """Exit codes of the ranks; when one dies, the others are ended, as Ray does."""
    folder.mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=train_rank, args=(rank, folder, config, attempt, dies_at))
        for rank in range(WORLD_SIZE)
    ]
    for process in ranks:
        process.start()
    ranks[1].join(240)
    for process in ranks:
        if ranks[1].exitcode != 0:
            process.kill()
        process.join(60)
    return [process.exitcode for process in ranks]


def written_digests(folder: Path) -> dict[str, str]:
    manifest = folder / "checkpoints" / f"step_{STEPS:08d}" / "manifest.json"
    files = json.loads(manifest.read_text())["files"]
    return {name: files[name]["sha256"] for name in RESULTS}


@pytest.mark.parametrize("is_taught", [False, True])
def test_a_killed_run_ends_bit_identical_to_an_uninterrupted_one(
    tmp_path: Path, is_taught: bool
) -> None:
    config = tiny_config(**SETTINGS)
    if is_taught:
        teacher = tiny_config(model__depth_input="objects")
        save_untrained(teacher, tmp_path / "teacher")
        add = {"kind": "add", "teacher": str(tmp_path / "teacher"), "heads": 2}
        config = tiny_config(**SETTINGS, distillation=add)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(whole, config, attempt=1) == [0, 0, 0]

    assert run(killed, config, attempt=1, dies_at=DIES_AT)[1] == -signal.SIGKILL
    last = max((killed / "checkpoints").glob("step_*"))
    metadata = read_metadata(last)
    assert (metadata.step, metadata.epoch, metadata.batch) == (SAVED_AT, 1, 4)

    assert run(killed, config, attempt=2) == [0, 0, 0]
    assert written_digests(killed) == written_digests(whole)
    held = [path.read_text() for path in tmp_path.glob("*/rank-*.json")]
    assert len(held) == 2 * WORLD_SIZE
    assert len(set(held)) == 1, "all ranks of both runs hold the same averages and optimiser state"
