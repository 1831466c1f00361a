"""Muon: orthogonal steps, the size of AdamW's, and what it leaves to AdamW."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mono3d.training.muon import (
    is_hidden_matrix,
    orthogonalised,
    orthogonalised_by_all_ranks,
)
from mono3d.training.optimiser_state import load_optimiser_tensors, optimiser_tensors
from mono3d.training.schedule import build_muon, set_learning_rate


def build(module: nn.Module, *, momentum: float = 0.9, weight_decay: float = 0.0):  # type: ignore[no-untyped-def]
    return build_muon(
        module, lr=0.01, weight_decay=weight_decay, momentum=momentum, betas=(0.9, 0.99)
    )


@pytest.mark.parametrize("shape", [(32, 32), (16, 288), (64, 24)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_the_direction_is_that_of_the_svd(shape: tuple[int, int], scale: float) -> None:
    """Singular values end between 0.6 and 1.3, whatever they were within two decades."""
    random = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(shape[0], min(shape), generator=random))[0]
    right = torch.linalg.qr(torch.randn(shape[1], min(shape), generator=random))[0]
    matrix = scale * left @ torch.diag(torch.logspace(0, -2, min(shape))) @ right.T
    found = orthogonalised(matrix)
    mixed = left.T @ found @ right
    values = mixed.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(mixed, torch.diag(values), atol=1e-3, rtol=0)


def test_agrees_with_the_iteration_on_the_matrix_itself() -> None:
    matrix = torch.randn(24, 100, generator=torch.Generator().manual_seed(1))
    plain = matrix / matrix.norm()
    for _ in range(5):
        gram = plain @ plain.T
        plain = 3.4445 * plain + (-4.7750 * gram + 2.0315 * gram @ gram) @ plain
    torch.testing.assert_close(orthogonalised(matrix), plain, atol=1e-5, rtol=0)


def test_a_zero_gradient_moves_nothing() -> None:
    assert torch.equal(orthogonalised(torch.zeros(16, 32)), torch.zeros(16, 32))


def test_stems_biases_and_few_channels_are_left_to_adamw() -> None:
    assert is_hidden_matrix(nn.Conv2d(16, 32, 3).weight)
    assert is_hidden_matrix(nn.Linear(16, 16).weight)
    assert not is_hidden_matrix(nn.Conv2d(2, 32, 1).weight)
    assert not is_hidden_matrix(nn.Linear(16, 8).weight)
    assert not is_hidden_matrix(nn.Parameter(torch.zeros(32)))


def test_steps_of_matrices_and_of_the_rest_are_of_adamw_s_size() -> None:
    layer = nn.Conv2d(32, 64, 3)
    before = [p.detach().clone() for p in layer.parameters()]
    optimizer = build(layer)
    for p in layer.parameters():
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
    optimizer.step()
    pairs = zip(layer.parameters(), before, strict=True)
    moved = [(p.detach() - b).square().mean().sqrt() for p, b in pairs]
    assert 0.0015 < float(moved[0]) < 0.0025  # 0.2 of the rate
    assert float(moved[1]) == pytest.approx(0.01, rel=1e-3)  # Adam's first step is the rate


def test_weight_decay_shrinks_matrices_only() -> None:
    layer = nn.Linear(16, 16)
    before = [p.detach().clone() for p in layer.parameters()]
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    build(layer, weight_decay=0.5).step()
    torch.testing.assert_close(layer.weight, before[0] * (1 - 0.01 * 0.5))
    torch.testing.assert_close(layer.bias, before[1])


def test_what_has_no_gradient_stays() -> None:
    layer = nn.Linear(16, 16)
    before = layer.weight.detach().clone()
    build(layer).step()
    assert torch.equal(layer.weight, before)


def test_goes_on_from_its_saved_state() -> None:
    """Two steps, saved, loaded and two more are four steps, to the bit."""

    def train(layer: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            random = torch.Generator().manual_seed(seed)
            for p in layer.parameters():
                p.grad = torch.randn(p.shape, generator=random)
            set_learning_rate(optimizer, 0.01)
            optimizer.step()

    torch.manual_seed(0)
    whole, first = nn.Linear(16, 32), nn.Linear(16, 32)
    first.load_state_dict(whole.state_dict())
    train(whole, build(whole), range(4))
    optimizer = build(first)
    train(first, optimizer, range(2))
    second = nn.Linear(16, 32)
    second.load_state_dict(first.state_dict())
    resumed = build(second)
    tensors = {name: t.clone() for name, t in optimiser_tensors(first, optimizer).items()}
    load_optimiser_tensors(second, resumed, tensors, source="test")
    train(second, resumed, range(2, 4))
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def matrices() -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    shapes = [(16, 144), (64, 16), (32, 32), (24, 16), (16, 16)]
    return [torch.randn(shape, generator=random) for shape in shapes]


def _rank(rank: int, folder: str, world_size: int) -> None:
    torch.set_num_threads(1)
    method = f"file://{folder}/init"
    dist.init_process_group("gloo", init_method=method, rank=rank, world_size=world_size)
    found = orthogonalised_by_all_ranks(matrices())
    alone = orthogonalised_by_all_ranks(matrices()[:1])
    values = {str(i): value.contiguous() for i, value in enumerate([*found, *alone])}
    save_file(values, Path(folder) / f"rank{rank}.safetensors")
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_share_the_work_and_get_the_same_directions(tmp_path: Path) -> None:
    mp.spawn(_rank, args=(str(tmp_path), 3), nprocs=3)
    wanted = [orthogonalised(matrix) for matrix in [*matrices(), matrices()[0]]]
    for rank in range(3):
        found = load_file(tmp_path / f"rank{rank}.safetensors")
        assert len(found) == len(wanted)
        for number, value in enumerate(wanted):
            torch.testing.assert_close(found[str(number)], value, rtol=0, atol=1e-5)


def test_a_convolution_steps_alike_in_both_memory_formats() -> None:
    plain, last = nn.Conv2d(16, 32, 3), nn.Conv2d(16, 32, 3)
    last.load_state_dict(plain.state_dict())
    last = last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in (plain, last):
        for p in layer.parameters():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(4))
        build(layer).step()
    torch.testing.assert_close(plain.weight, last.weight)
