"""Rendering a synthetic data set with its progress on the terminal, or in lines of a log."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from mono3d.data.synthetic.folder import SyntheticSummary

_LINE_EVERY_S = 10.0


def render(
    write: "Callable[[Callable[[int, int], None]], SyntheticSummary]", *, console: Console
) -> "SyntheticSummary":
    """Let a data set be written.

    Args:
        write: Writes it unless it is there; tells what it is given how many pictures are done, and
            how many there will be.
        console: Where the progress is shown.
    """
    last_line_s = time.monotonic()
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("rendering images", total=None)

        def show(done: int, total: int) -> None:
            nonlocal last_line_s
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - last_line_s >= _LINE_EVERY_S:
                last_line_s = time.monotonic()
                console.print(f"rendered {done} of {total} images", highlight=False)

        return write(show)
