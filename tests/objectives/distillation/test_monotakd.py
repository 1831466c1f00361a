"""The residual that MonoTAKD's spatial stream learns, worked out by hand."""

import pytest
import torch

from mono3d.objectives.distillation.monotakd import residual_map


def test_what_both_have_is_no_residual() -> None:
    maps = torch.randn(2, 3, 4, 5)
    for how in ("standardise", "range"):
        found = residual_map(maps, 3 * maps + 1, normalisation=how, threshold=0.0)
        torch.testing.assert_close(found, torch.zeros_like(maps), atol=1e-4, rtol=0)


def test_only_what_is_much_stays() -> None:
    """Brought to [0, 1] the maps differ by 0.5, 0.25 and 0.4 at three cells."""
    assistant = torch.tensor([0.0, 1.0, 0.5, 0.5, 0.5]).view(1, 1, 1, 5)
    teacher = torch.tensor([0.0, 1.0, 1.0, 0.25, 0.9]).view(1, 1, 1, 5)
    found = residual_map(teacher, assistant, normalisation="range", threshold=0.6)
    wanted = torch.tensor([0.0, 0, 0.5, 0, 0.4]).view(1, 1, 1, 5)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_each_channel_keeps_what_is_much_in_it() -> None:
    """A channel that is seldom on reaches many deviations; it does not silence the others."""
    rare, usual = torch.zeros(400), torch.linspace(-1, 1, 400)
    rare[0] = 1.0
    teacher = torch.stack([rare, usual]).view(1, 2, 20, 20)
    assistant = torch.stack([torch.zeros(400), usual.flip(0)]).view(1, 2, 20, 20)
    found = residual_map(teacher, assistant, normalisation="standardise", threshold=0.6)
    kept = (found > 0).float().mean((0, 2, 3))
    assert float(kept[0]) == pytest.approx(1 / 400)
    assert float(kept[1]) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("how", ["standardise", "range"])
def test_a_frame_does_not_depend_on_the_others(how: str) -> None:
    """In the authors' code one extreme cell scales the whole batch."""
    teacher, assistant = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    alone = residual_map(teacher[:1], assistant[:1], normalisation=how, threshold=0.6)  # type: ignore[arg-type]
    extreme = teacher.clone()
    extreme[1] *= 1000
    together = residual_map(extreme, assistant, normalisation=how, threshold=0.6)  # type: ignore[arg-type]
    torch.testing.assert_close(together[:1], alone)


def test_an_empty_map_is_finite() -> None:
    zeros = torch.zeros(1, 2, 3, 3)
    for how in ("standardise", "range"):
        found = residual_map(zeros, zeros, normalisation=how, threshold=0.6)
        assert bool((found == 0).all())


def test_nothing_is_learnt_through_it() -> None:
    teacher = torch.randn(1, 2, 3, 3, requires_grad=True)
    found = residual_map(teacher, torch.randn(1, 2, 3, 3), normalisation="range", threshold=0.5)
    assert not found.requires_grad
