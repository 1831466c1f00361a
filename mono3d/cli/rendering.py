"""Rendering a synthetic data set with its progress on the terminal, or in lines of a log."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console

from mono3d.cli.progress import counting

if TYPE_CHECKING:
    from mono3d.data.synthetic.folder import SyntheticSummary


def render(
    write: "Callable[[Callable[[int, int], None]], SyntheticSummary]", *, console: Console
) -> "SyntheticSummary":
    """Let a data set be written.

    Args:
        write: Writes it unless it is there; tells what it is given how many pictures are done, and
            how many there will be.
        console: Where the progress is shown.
    """
    with counting(console, "rendering images", "rendered {} images") as show:
        return write(show)
