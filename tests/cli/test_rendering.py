"""Progress of a rendering in a log file, and the stages of the demo."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from mono3d.cli import demo, progress, rendering
from mono3d.cli.demo import StageClock
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes


def test_a_rendering_without_a_terminal_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    config = SyntheticConfig(
        image_size=(64, 36), train_scenes=1, val_scenes=1, samples_per_scene=1, seed=0
    )
    text = io.StringIO()
    summary = rendering.render(
        lambda show: write_nuscenes(tmp_path / "world", config, num_processes=1, on_progress=show),
        console=Console(file=text),
    )
    assert summary.num_images == 12
    assert text.getvalue().splitlines()[-1] == "rendered 12 of 12 images"


def test_stages_go_on_where_they_are_entered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 6.0, 10.0])
    monkeypatch.setattr(demo.time, "perf_counter", lambda: next(times))
    clock = StageClock()
    for stage in ("training", "evaluation", "training", "end"):
        clock.enter(stage)
    assert clock.rounded() == {"training": 6.0, "evaluation": 3.0, "total": 9.0}
