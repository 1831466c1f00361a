"""A profile on paper."""

from dataclasses import replace
from pathlib import Path

from mono3d.training.step_profile import Cost, StepProfile, read_profile, write_profile

PROFILE = StepProfile(
    device="cpu",
    workers=2,
    frames_per_step=16,
    image_size=(96, 240),
    steps=10,
    step_ms=400.0,
    profiled_step_ms=500.0,
    images_per_s=40.0,
    peak_memory_gib=1.25,
    peak_gpu_memory_gib=None,
    stages=[Cost(name="forward", host_ms=200.0), Cost(name="forward/neck", host_ms=50.0)],
    operators=[Cost(name=f"aten::op{n}", host_ms=20.0 - n, calls=float(n)) for n in range(20)],
)


def test_a_profile_comes_back_from_its_folder(tmp_path: Path) -> None:
    write_profile(PROFILE, tmp_path)
    assert read_profile(tmp_path) == PROFILE


def test_its_text_says_speed_memory_stages_and_operators(tmp_path: Path) -> None:
    write_profile(PROFILE, tmp_path)
    lines = (tmp_path / "profile.txt").read_text().splitlines()
    assert lines[0] == "40.0 images/s: 400.0 ms a step of 16 frames of 96x240 on 2 x cpu"
    assert lines[1].startswith(
        "peak memory 1.25 GiB; under the profiler, as below, a step took 500"
    )
    rows = [[cell.rstrip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows[0] == [" forward", "  200.00", " 40.0%"]
    assert rows[1][0] == "   neck"
    assert len(rows) == 2 + 15
    assert "GPU" not in "".join(lines)


def test_times_on_a_gpu_have_a_column(tmp_path: Path) -> None:
    stages = [Cost(name="forward", host_ms=2.0, gpu_ms=321.0)]
    write_profile(replace(PROFILE, stages=stages, operators=[], peak_gpu_memory_gib=7.5), tmp_path)
    text = (tmp_path / "profile.txt").read_text()
    assert "GPU ms" in text
    assert "321.00" in text
    assert "7.50 GiB on the GPU" in text
