"""Time on a GPU belongs to the stage in which the host asked for it."""

import pytest
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import DeviceType

from mono3d.training.profile_events import stage_costs


def event(
    name: str, start_us: int, end_us: int, *, kernel_us: int = 0, thread: int = 1
) -> FunctionEvent:
    is_label = not name.startswith("aten::")
    made = FunctionEvent(
        id=start_us, name=name, thread=thread, start_us=start_us, end_us=end_us,
        is_user_annotation=is_label,
    )  # fmt: skip
    if kernel_us:
        made.append_kernel("kernel", 0, kernel_us)
    return made


def on_gpu(name: str, start_us: int, end_us: int) -> FunctionEvent:
    return FunctionEvent(
        id=0, name=name, thread=7, start_us=start_us, end_us=end_us, device_type=DeviceType.CUDA
    )  # fmt: skip


EVENTS = [
    event("ProfilerStep*", 0, 10_000),
    event("stage/forward", 1_000, 3_000, kernel_us=9_999),  # its span on the GPU is no kernel
    event("stage/forward/neck", 1_500, 2_000),
    event("aten::conv2d", 1_600, 1_700, kernel_us=4_000),
    event("aten::relu", 2_500, 2_600, kernel_us=1_000),
    on_gpu("stage/forward", 2_000, 8_000),
    event("stage/backward", 3_000, 4_000),
    event("aten::convolution_backward", 3_500, 3_600, kernel_us=7_000, thread=2),
    event("aten::add_", 9_000, 9_100, kernel_us=500),
]


def test_kernels_count_where_they_were_launched_on_any_thread() -> None:
    costs = {cost.name: cost for cost in stage_costs(EVENTS, 1, has_gpu=True)}
    assert [*costs] == ["forward", "forward/neck", "backward", "rest"]
    assert {name: cost.gpu_ms for name, cost in costs.items()} == pytest.approx(
        {"forward": 5.0, "forward/neck": 4.0, "backward": 7.0, "rest": 0.5}
    )
    assert {name: cost.host_ms for name, cost in costs.items()} == pytest.approx(
        {"forward": 2.0, "forward/neck": 0.5, "backward": 1.0, "rest": 7.0}
    )


def test_without_a_gpu_no_time_is_told_of_it() -> None:
    assert [cost.gpu_ms for cost in stage_costs(EVENTS, 2, has_gpu=False)] == [None] * 4
    assert stage_costs(EVENTS, 2, has_gpu=False)[0].host_ms == pytest.approx(1.0)
