"""Progress of counted work where no terminal is."""

import io

import pytest
from rich.console import Console

from mono3d.cli import progress


@pytest.mark.parametrize(
    ("total", "every_s", "lines"),
    [
        (5, 0.0, ["2 of 5 frames done", "3 of 5 frames done"]),
        (None, 0.0, ["2 frames done", "3 frames done"]),
        (5, 1000.0, []),
    ],
)
def test_a_log_has_a_line_now_and_then(
    total: int | None, every_s: float, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", every_s)
    text = io.StringIO()
    with progress.counting(Console(file=text), "detecting", "{} frames done") as show:
        show(2, total)
        show(3, total)
    assert text.getvalue().splitlines() == lines
