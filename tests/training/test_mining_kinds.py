"""Every kind of mining trains with every family of detectors and every form of depth."""

import gc
import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mono3d.structures import Batch
from mono3d.training.distributed import distribute
from mono3d.training.loop import seed_step, train_step
from mono3d.training.parts import Place, RunParts
from tests.support.frames import FramesInMemory, make_batch
from tests.support.host_sync import NoHostSync
from tests.support.mining import MINING_KINDS
from tests.support.training import state_digests, tiny_config, tiny_parts

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "dense": {},
    "center": {
        "model": {
            "kind": "center", "backbone": {"kind": "resnet", "depth": 18, "width": 16},
            "channels": 8, "tower_depth": 1,
        },
    },
}  # fmt: skip
FORMS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "laplace": {"model__has_uncertainty": True, "loss__depth_loss": "laplace"},
    "bins": {"model__num_depth_bins": 4},
}
SOON = {"warmup_epochs": 1.0, "ramp_epochs": 1.0}


def parts_of(kind: str, *settings: Mapping[str, Any], place: Place | None = None) -> RunParts:
    mining = {"kind": kind} if kind == "none" else {"kind": kind, **SOON}
    merged = {name: value for part in settings for name, value in part.items()}
    return tiny_parts(tiny_config(mining=mining, **deepcopy(merged)), place or Place())


COMBINATIONS = [
    pytest.param(
        kind, FAMILIES[family], FORMS[form], id=f"{kind}-{family}-{form}",
        marks=[] if form == "plain" or kind in {"gmm", "lss"} else pytest.mark.slow,
    )
    for kind in MINING_KINDS for family in FAMILIES for form in FORMS
]  # fmt: skip


@pytest.mark.parametrize(("kind", "family", "form"), COMBINATIONS)
def test_two_steps(kind: str, family: Mapping[str, Any], form: Mapping[str, Any]) -> None:
    """One half way up the ramp, one after it; the second waits for no device."""
    state = (parts := parts_of(kind, family, form)).state
    batches = parts.loader.epoch(0)
    state.module.train()
    for progress in (1.5, 3.0):
        batch = next(batches)
        with NoHostSync():
            output = train_step(
                state, [batch], max_grad_norm=35.0, progress=progress, with_statistics=True
            )
        assert torch.stack(list(output.terms.values())).isfinite().all()
        assert output.statistics["grad_norm"].isfinite()
        assert output.statistics["mining/weight_mean"].item() == pytest.approx(1, abs=1e-5)
        assert 0 < output.statistics["mining/effective_share"] <= 1 + 1e-6
    assert state.skipped == 0
    for name, parameter in state.module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("kind", MINING_KINDS)
def test_in_warm_up_a_step_is_that_without_mining(kind: str, family: Mapping[str, Any]) -> None:
    """To the last bit, in every weight that both runs have."""
    weights = []
    for one in (kind, "none"):
        parts = parts_of(one, family)
        seed_step(0, 0)
        batch = next(parts.loader.epoch(0))
        train_step(parts.state, [batch], max_grad_norm=35.0, progress=0.5, with_statistics=False)
        weights.append(dict(parts.state.train_module.student.named_parameters()))
    for name, expected in weights[1].items():
        assert torch.equal(weights[0][name], expected), name


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("kind", MINING_KINDS)
def test_without_objects_every_parameter_still_has_a_gradient(
    kind: str, family: Mapping[str, Any]
) -> None:
    """Or DDP would wait for it forever."""
    state = parts_of(kind, family).state
    batch = without_objects(state.train_module.objective.codec)
    output = train_step(state, [batch], max_grad_norm=35.0, progress=3.0, with_statistics=True)
    assert output.terms["depth"] == 0
    assert all(value.isfinite() for value in output.statistics.values())
    assert all(parameter.grad is not None for parameter in state.module.parameters())


def without_objects(codec: Any) -> Batch:
    frames = [FramesInMemory(2)[index] for index in range(2)]
    return make_batch([replace(f, boxes_cam=None, boxes_bev=None) for f in frames], codec)


@pytest.mark.parametrize("kind", ["ghm", "lss"])
def test_a_step_repeats_itself_to_the_last_bit(kind: str) -> None:
    """Selection draws noise: from the generator that the loop seeds by step and rank."""
    digests = []
    for _ in range(2):
        parts = parts_of(kind)
        batch = next(parts.loader.epoch(0))
        seed_step(3, 5)
        train_step(parts.state, [batch], max_grad_norm=35.0, progress=3.0, with_statistics=False)
        digests.append(state_digests(parts.state))
    assert digests[0] == digests[1]


def _two_steps(kind: str, rank: int) -> None:
    """On two ranks, the second step without an object on rank 1; weights are equal afterwards."""
    parts = parts_of(kind, place=Place(rank=rank, world_size=2))
    state = parts.state
    distribute(state, parts.loader)
    state.module.train()
    with_objects = next(parts.loader.epoch(0))
    nothing = without_objects(state.train_module.objective.codec)
    for batch in (with_objects, nothing if rank == 1 else with_objects):
        seed_step(0, state.step)
        train_step(state, [batch], max_grad_norm=35.0, progress=3.0, with_statistics=True)
    assert state.skipped == 0
    flat = torch.cat([p.detach().flatten() for p in state.module.parameters()])
    both = [torch.empty_like(flat) for _ in range(2)]
    dist.all_gather(both, flat)
    assert torch.equal(*both)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    for kind in ("lss", "ghm"):
        _two_steps(kind, rank)
    # Before its group: a DDP model that outlives it ends gloo's thread with the interpreter locked,
    # for which that thread may wait.
    gc.collect()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_stay_equal_also_where_one_has_no_objects(tmp_path: Path) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
