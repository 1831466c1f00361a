"""Tests of the choice of arithmetic."""

import pytest
import torch

from mono3d.training.precision import autocast_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_what_is_asked_for_is_what_runs() -> None:
    assert autocast_dtype("float32", CPU) is None
    assert autocast_dtype("bfloat16", CPU) is torch.bfloat16


@pytest.mark.parametrize("has_units", [False, True])
def test_auto_asks_the_processor(has_units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_units})
    assert (autocast_dtype("auto", CPU) is torch.bfloat16) == has_units
    assert autocast_dtype("float32", CPU) is None


@pytest.mark.parametrize("works", [False, True])
def test_auto_does_not_take_an_emulation_on_a_gpu(
    works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or works,
    )
    assert (autocast_dtype("auto", GPU) is torch.bfloat16) == works
