"""Counted work on the terminal, or in lines of a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

_LINE_EVERY_S = 10.0


@contextmanager
def counting(console: Console, doing: str, did: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show how much is done, as a bar, or as a line now and then where no terminal is.

    Args:
        console: Where to.
        doing: Says what goes on: "rendering images".
        did: Says what is done, with a place for numbers: "rendered {} images".

    Returns:
        To be told how many things are done, and of how many, if that is known.
    """
    last_line_s = time.monotonic()
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=None)

        def show(done: int, total: int | None) -> None:
            nonlocal last_line_s
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - last_line_s >= _LINE_EVERY_S:
                last_line_s = time.monotonic()
                count = f"{done}" if total is None else f"{done} of {total}"
                console.print(did.format(count), highlight=False)

        yield show
