"""In which arithmetic the network runs."""

from typing import Literal

import torch


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself: elsewhere it is emulated, and slow.

    Args:
        device: A CUDA device or the CPU. Processors count if they have matrix units for bfloat16
            (AMX): there a step of the demo takes two thirds of its time in float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def autocast_dtype(
    precision: Literal["auto", "float32", "bfloat16"], device: torch.device
) -> torch.dtype | None:
    """What the network is cast to on a device; None leaves it in float32."""
    is_coarse = precision == "bfloat16" or (precision == "auto" and has_bfloat16_units(device))
    return torch.bfloat16 if is_coarse else None
