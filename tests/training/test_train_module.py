"""Student, objective and adapters in one module, on one rank or several."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.mining.uniform import Uniform
from mono3d.objectives.protocol import StepContext
from mono3d.structures import Batch, Frame, LossTerms, Predictions
from mono3d.training.loop import train_step
from mono3d.training.schedule import build_sgd
from mono3d.training.state import TrainState, WeightAverage
from mono3d.training.train_module import TrainModule
from tests.support.detectors import context_of, make_detector, make_objective
from tests.support.frames import FramesInMemory, make_batch, make_codec

CODEC = make_codec()
MININGS: dict[str, Mining] = {
    "none": Uniform(),
    "gmm": GmmMining(warmup_epochs=0.0, ramp_epochs=0.0),
}
FRAMES = FramesInMemory(6)


UNLABELLED = (4, 5)


def frame(index: int) -> Frame:
    if index in UNLABELLED:
        return replace(FRAMES[index], boxes_cam=None, boxes_bev=None)
    return FRAMES[index]


def frames(*indices: int) -> Batch:
    return make_batch([frame(index) for index in indices], CODEC)


class SumOfFeatures:
    """A distiller without a teacher: an adapter on one feature map."""

    def __init__(self) -> None:
        self.adapters: nn.Module = nn.Conv2d(8, 1, 1)

    def to(self, device: torch.device | str) -> "SumOfFeatures":
        return self

    def losses(self, batch: Batch, student: Predictions, context: StepContext) -> LossTerms:
        return {"sum": self.adapters(student.features["neck_8"]).square().mean()}


def test_terms_of_a_distiller_join_under_their_own_name() -> None:
    batch = frames(0)
    plain = TrainModule(make_detector(), make_objective(CODEC))
    joined = TrainModule(make_detector(), make_objective(CODEC), SumOfFeatures())
    one, other = plain(batch, context_of(batch)), joined(batch, context_of(batch))
    assert set(other.terms) - set(one.terms) == {"distill/sum"}
    assert all(torch.equal(other.terms[name], value) for name, value in one.terms.items())


def test_what_is_exported_is_the_student_alone() -> None:
    module = TrainModule(make_detector(), make_objective(CODEC), SumOfFeatures())
    names = {name.split(".")[0] for name, _ in module.named_parameters()}
    assert names == {"student", "adapters"}
    assert set(module.student.state_dict()) == set(make_detector().state_dict())


def test_the_depth_branch_s_gradient_is_told_where_the_student_has_one() -> None:
    batch = frames(0)
    module = TrainModule(make_detector(), make_objective(CODEC))
    module(batch, context_of(batch)).terms["depth"].backward()
    assert float(module.gradient_statistics()["grad_norm_depth"]) > 0
    assert TrainModule(nn.Identity(), make_objective(CODEC)).gradient_statistics() == {}


def test_low_precision_stops_at_the_network() -> None:
    batch = frames(0, 1)
    exact = TrainModule(make_detector(), make_objective(CODEC)).eval()
    coarse = TrainModule(
        make_detector(), make_objective(CODEC), autocast_dtype=torch.bfloat16
    ).eval()
    one, other = exact(batch, context_of(batch)).terms, coarse(batch, context_of(batch)).terms
    for name, value in other.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, one[name], rtol=0.1, atol=0.05)
    assert any(not torch.equal(other[name], one[name]) for name in one)


def make_state(mining: str) -> TrainState:
    """Batch norms in eval mode: they see only their rank's images."""
    module = TrainModule(make_detector(), make_objective(CODEC, mining=MININGS[mining]))
    module.student.eval()
    return TrainState(
        module=module,
        optimizer=build_sgd(module, lr=0.01, weight_decay=0.0, momentum=0.0),
        schedule=lambda step: 1.0,
        peak_lr=0.01,
        ema=WeightAverage(module.student, 0.9),
    )


def two_steps(state: TrainState, steps: list[list[Batch]]) -> dict[str, Tensor]:
    """Weights and mining memory afterwards, and each step's loss, averaged over ranks."""
    results = {}
    for number, batches in enumerate(steps):
        output = train_step(state, batches, max_grad_norm=1e9, progress=3.0, with_statistics=False)
        loss = torch.stack(list(output.terms.values())).sum()
        if dist.is_initialized():
            dist.all_reduce(loss)
            loss = loss / dist.get_world_size()
        results[f"loss{number}"] = loss
    return results | state.train_module.state_dict()


RANK_STEPS = {
    # Two micro-batches of two frames; the last two frames have no labels.
    0: [[(0, 1), (2, 3)], [(1, 2), (4, 0)]],
    1: [[(3, 0), (4, 5)], [(5, 4), (2, 1)]],
}


def _rank(rank: int, folder: str, mining: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    state = make_state(mining)
    state.module = DistributedDataParallel(state.train_module, forward_sync_buffers=False)
    steps = [[frames(*indices) for indices in step] for step in RANK_STEPS[rank]]
    save_file(
        {name: value.contiguous() for name, value in two_steps(state, steps).items()},
        Path(folder) / f"rank{rank}.safetensors",
    )
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("mining", MININGS)
def test_two_ranks_step_like_one_on_the_joined_batches(mining: str, tmp_path: Path) -> None:
    spawn(_rank, args=(str(tmp_path), mining), nprocs=2)
    joined = [
        [frames(*first, *second) for first, second in zip(*both, strict=True)]
        for both in zip(RANK_STEPS[0], RANK_STEPS[1], strict=True)
    ]
    wanted = two_steps(make_state(mining), joined)
    ranks = [load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2)]
    assert ranks[0].keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], value, rtol=1e-4, atol=1e-6, msg=name)
    start = make_state(mining).train_module.state_dict()
    moved = [name for name, value in start.items() if not torch.equal(wanted[name], value)]
    assert len(moved) > 50
