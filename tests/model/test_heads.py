import pytest
import torch
from torch import nn

from mono3d.model.heads import Branches, conv_tower, join_levels


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_tower_keeps_the_size_and_changes_the_channels_once(depth: int) -> None:
    tower = conv_tower(10, 24, depth)
    out = tower(torch.randn(2, 10, 5, 7))
    assert out.shape == (2, 24 if depth else 10, 5, 7)
    norms = [m for m in tower if isinstance(m, nn.GroupNorm)]
    assert [norm.num_groups for norm in norms] == [3] * depth


def test_branches_flatten_points_row_by_row() -> None:
    branches = Branches(3, {"depth": 1, "offset": 2})
    level = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    said = branches(level)
    assert said["depth"].shape == (1, 20, 1)
    assert said["offset"].shape == (1, 20, 2)
    at_cell = branches(level[:, :, 1:2, 2:3])
    for name in said:
        torch.testing.assert_close(said[name][0, 1 * 5 + 2], at_cell[name][0, 0])


def test_a_branch_starts_at_its_bias() -> None:
    branches = Branches(3, {"a": 1, "b": 2})
    branches.set_bias("a", -2.5)
    said = branches(torch.zeros(1, 3, 2, 2))
    assert said["a"].eq(-2.5).all()
    assert said["b"].eq(0).all()


def test_the_norm_of_a_gradient_is_one_branch_s_alone() -> None:
    branches = Branches(3, {"a": 1, "b": 2})
    assert float(branches.gradient_norm("b")) == 0
    said = branches(torch.ones(1, 3, 1, 1))
    (said["a"].sum() * 100 + said["b"][..., 1].sum()).backward()
    gradients = [p.grad[1:].flatten() for p in branches.parameters() if p.grad is not None]
    assert float(branches.gradient_norm("b")) == pytest.approx(float(torch.cat(gradients).norm()))
    assert float(branches.gradient_norm("b")) < 10 < float(branches.gradient_norm("a"))


def test_levels_are_joined_along_the_points() -> None:
    fine, coarse = {"a": torch.zeros(1, 6, 2)}, {"a": torch.ones(1, 2, 2)}
    assert join_levels([fine, coarse])["a"][0, :, 0].tolist() == [0] * 6 + [1] * 2
