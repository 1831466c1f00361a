"""How a part of the objective comes in: not at first, then by and by."""


def ramp(progress: float, *, warmup_epochs: float, ramp_epochs: float) -> float:
    """Share in [0, 1] of a part: 0 in warm-up, then linearly up to 1. `progress` in epochs."""
    if progress < warmup_epochs:
        return 0.0
    if progress >= warmup_epochs + ramp_epochs:
        return 1.0
    return (progress - warmup_epochs) / ramp_epochs
