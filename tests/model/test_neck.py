import pytest
import torch

from mono3d.model.neck import FeaturePyramid


def maps_of(size: tuple[int, int], strides: tuple[int, ...]) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 4 + i, -(-size[0] // s), -(-size[1] // s), generator=random)
        for i, s in enumerate(strides)
    ]


@pytest.mark.parametrize("in_strides", [(4, 8, 16, 32), (14,), (16,)])
def test_one_map_a_stride_whatever_comes_in(in_strides: tuple[int, ...]) -> None:
    neck = FeaturePyramid(
        [4 + i for i in range(len(in_strides))], in_strides, strides=(8, 16, 32, 64), channels=6
    )
    levels = neck(maps_of((70, 100), in_strides), (70, 100))
    assert [tuple(level.shape) for level in levels] == [
        (2, 6, 9, 13), (2, 6, 5, 7), (2, 6, 3, 4), (2, 6, 2, 2),
    ]  # fmt: skip


def test_a_level_starts_from_the_map_nearest_to_its_stride_of_two_the_deeper() -> None:
    neck = FeaturePyramid([4, 5, 6], (4, 8, 32), strides=(8, 16, 64), channels=3)
    assert [conv.in_channels for conv in neck.lateral] == [5, 6, 6]


def test_maps_coarser_than_every_level_pass_their_context_down() -> None:
    neck = FeaturePyramid([4, 5, 6], (8, 16, 32), strides=(8,), channels=3)
    maps = [m.requires_grad_() for m in maps_of((64, 64), (8, 16, 32))]
    (level,) = neck(maps, (64, 64))
    assert level.shape == (2, 3, 8, 8)
    for gradient in torch.autograd.grad(level.sum(), maps):
        assert gradient.abs().sum() > 0


def test_the_finest_level_sees_the_coarsest_map_and_not_the_reverse() -> None:
    neck = FeaturePyramid([4, 5, 6], (8, 16, 32), strides=(8, 16, 32), channels=3)
    maps = [m.requires_grad_() for m in maps_of((64, 64), (8, 16, 32))]
    levels = neck(maps, (64, 64))
    to_coarse = torch.autograd.grad(levels[0].sum(), maps[2], retain_graph=True)[0]
    assert to_coarse.abs().sum() > 0
    from_fine = torch.autograd.grad(levels[2].sum(), maps[0], allow_unused=True)[0]
    assert from_fine is None
