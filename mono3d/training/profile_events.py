"""What the profiler's events say of the stages of a step and of operators."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from torch.autograd.profiler_util import FunctionEvent, FunctionEventAvg
from torch.profiler import DeviceType

from mono3d.training.step_profile import Cost

STAGE = "stage/"
"""Begins the label of a stage; parts of a stage are named after it: `stage/forward/backbone`."""
STEP = "ProfilerStep"


def stage_costs(events: Sequence[FunctionEvent], steps: int, *, has_gpu: bool) -> list[Cost]:
    """What each stage costs a step, in the order in which they begin; the rest comes last.

    Work on the GPU belongs to the stage in which the host asked for it, on whichever thread:
    backward passes have one of their own.

    Args:
        events: Of the profiler, by start.
        steps: That they cover.
        has_gpu: Whether GPU times are wanted.
    """
    on_host = [event for event in events if event.device_type == DeviceType.CPU]
    asked = [event for event in on_host if event.kernels and not event.is_user_annotation]
    kernels = _pairs((e.time_range.start, sum(k.duration for k in e.kernels)) for e in asked)

    def cost(name: str) -> Cost:
        found = [event for event in on_host if event.name == name]
        spans = _pairs((event.time_range.start, event.time_range.end) for event in found)
        return Cost(
            name=name.removeprefix(STAGE),
            host_ms=float((spans[:, 1] - spans[:, 0]).sum()) / steps / 1e3,
            gpu_ms=_asked_in(spans, kernels) / steps / 1e3 if has_gpu else None,
            calls=len(spans) / steps,
        )

    stages = [
        cost(name) for name in dict.fromkeys(e.name for e in on_host if e.name.startswith(STAGE))
    ]
    outermost = [stage for stage in stages if "/" not in stage.name]
    whole = cost(next(event.name for event in on_host if event.name.startswith(STEP)))
    rest = Cost(
        name="rest",
        host_ms=whole.host_ms - sum(stage.host_ms for stage in outermost),
        gpu_ms=whole.gpu_ms - sum(stage.gpu_ms or 0.0 for stage in outermost)
        if whole.gpu_ms is not None
        else None,
    )
    return [*stages, rest]


def _pairs(values: Iterable[tuple[float, float]]) -> Float[np.ndarray, "n 2"]:
    return np.array(list(values), dtype=np.float64).reshape(-1, 2)


def _asked_in(spans: Float[np.ndarray, "n 2"], kernels: Float[np.ndarray, "k 2"]) -> float:
    """Sum of the durations of kernels (start, duration) that start within spans (start, end)."""
    before = np.searchsorted(spans[:, 0], kernels[:, 0], side="right") - 1
    is_inside = (before >= 0) & (kernels[:, 0] <= spans[before, 1])
    return float(kernels[is_inside, 1].sum())


def operator_costs(
    averages: Iterable[FunctionEventAvg], steps: int, *, has_gpu: bool
) -> list[Cost]:
    """Time in operators themselves, the dearest first."""
    costs = [
        Cost(
            name=str(average.key),
            host_ms=average.self_cpu_time_total / steps / 1e3,
            gpu_ms=average.self_device_time_total / steps / 1e3 if has_gpu else None,
            calls=average.count / steps,
        )
        for average in averages
        if average.device_type == DeviceType.CPU and not average.is_user_annotation
    ]
    return sorted(costs, key=lambda cost: cost.gpu_ms or cost.host_ms, reverse=True)
