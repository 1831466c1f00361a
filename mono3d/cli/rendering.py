"""Rendering a synthetic data set with its progress on the terminal, or in lines of a log."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, SyntheticSummary

_LINE_EVERY_S = 10.0


def render(
    root: Path, config: "SyntheticConfig", *, num_processes: int, console: Console
) -> "SyntheticSummary":
    """Write the data set unless it is there; see `write_nuscenes`."""
    from mono3d.data.synthetic.nuscenes_folder import write_nuscenes  # seconds to import

    last_line_s = time.monotonic()
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("rendering images", total=None)

        def show(done: int, total: int) -> None:
            nonlocal last_line_s
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - last_line_s >= _LINE_EVERY_S:
                last_line_s = time.monotonic()
                console.print(f"rendered {done} of {total} images", highlight=False)

        return write_nuscenes(root, config, num_processes=num_processes, on_progress=show)
