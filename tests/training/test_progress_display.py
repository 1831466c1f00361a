import io

from rich.console import Console

from mono3d.tracking.records import MetricRecord
from mono3d.training.progress import Progress, ProgressSink
from mono3d.training.progress_display import ProgressDisplay


def at(step: int, **metrics: float) -> Progress:
    record = MetricRecord(
        step=step,
        time_ms=0,
        metrics={name.replace("__", "/"): value for name, value in metrics.items()},
    )
    return Progress(step=step, total_steps=20, epoch=0, record=record)


STEP = {"loss__total": 1.5, "train__depth_error": 0.123, "train__images_per_s": 61.04}


def written(*steps: Progress | str, is_terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=is_terminal, width=160)
    with ProgressDisplay(epochs=2, metric="val/score", console=console) as sink:
        assert isinstance(sink, ProgressSink)
        for step in steps:
            sink.say(step) if isinstance(step, str) else sink.update(step)
    return file.getvalue()


def test_a_terminal_shows_where_the_run_is() -> None:
    text = written(at(4, **STEP), is_terminal=True)
    for shown in ("epoch 1/2", " 4/20", "loss 1.500", "depth error 12.3%", "61.0 images/s"):
        assert shown in text


def test_a_terminal_says_that_an_evaluation_goes_on() -> None:
    text = written(at(4, **STEP), Progress(step=10, total_steps=20, epoch=1), is_terminal=True)
    assert "epoch 2/2" in text
    assert "evaluating" in text


def test_a_log_gets_lines_and_no_drawing() -> None:
    steps = (at(2, **STEP), at(4, **STEP), at(10, val__score=0.25), at(10, val__score=0.25))
    assert written(*steps, "worker 1 failed", is_terminal=False).splitlines() == [
        "epoch 1/2 step 2/20 loss 1.500  depth error 12.3%  61.0 images/s",
        "step 10: val/score 0.2500",
        "worker 1 failed",
    ]
