"""What `mono3d tune` shows on its way: a table that is drawn anew, or lines where none can be."""

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mono3d.search.report.table import ranked

if TYPE_CHECKING:
    from mono3d.search.record import Proposal, SearchRecord
    from mono3d.search.trial import TrialReport

_SHOWN_BEST = 8


class TuneDisplay:
    """A SearchDisplay on a terminal: trials on their way, and the best so far."""

    def __init__(self, record: "SearchRecord") -> None:
        """Of a search whose record need not be prepared yet."""
        self._record = record
        self._console = Console()
        self._began = time.monotonic()
        self._running: dict[int, tuple[str, int, float]] = {}
        """Number → settings in words, epochs done, last value."""
        self._over: list[tuple[int, str, float, str]] = []
        """Number, state, value, settings in words, those of earlier calls first."""
        for row in ranked(record.study):
            if row.state not in ("running", "waiting", "imported"):
                value = row.values[0] if row.values else math.nan
                self._over.append((row.number, row.state, value, ", ".join(row.changed)))
        self._is_less_better = next(iter(record.settings.objectives.values())) == "min"
        self._live = Live(
            console=self._console, auto_refresh=False, get_renderable=self._draw, transient=True
        )

    def __enter__(self) -> "TuneDisplay":
        """Start to draw."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal in order."""
        if self._console.is_terminal:
            self._live.stop()

    def began(self, proposal: "Proposal") -> None:
        """A trial begins."""
        words = ", ".join(f"{key}={_short(value)}" for key, value in proposal.settings.items())
        self._running[proposal.number] = (words, 0, math.nan)
        verb = "goes on" if proposal.is_resumed else "begins"
        self.say(f"trial {proposal.number} {verb}: {words or 'the recipe as it is'}")

    def moved(self, report: "TrialReport", value: float) -> None:
        """A trial was evaluated."""
        words, *_ = self._running[report.number]
        self._running[report.number] = (words, report.epoch, value)
        self.say(
            f"trial {report.number}: epoch {report.epoch}/{self._record.epochs}"
            + (f", run {report.run + 1}" if report.run else "")
            + f", {self._record.metric} {value:.4f}"
        )

    def ended(self, number: int, state: str, value: float, reason: str) -> None:
        """A trial is over."""
        words, *_ = self._running.pop(number)
        self._over.append((number, state, value, words))
        shown = "" if math.isnan(value) else f", {self._record.metric} {value:.4f}"
        self.say(f"trial {number} {state}{shown}{': ' + reason if reason else ''}")

    def say(self, line: str) -> None:
        """Print a line above the table."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        if self._console.is_terminal:
            self._live.refresh()

    def _draw(self) -> Group:
        budget = self._record.settings.budget
        minutes = (time.monotonic() - self._began) / 60
        head = Text(
            f"{self._record.name}: {len(self._over)} over, {len(self._running)} on their way, "
            f"of {budget.trials} trials; {minutes:.0f} min"
        )
        table = Table("trial", "state", self._record.metric, "settings", expand=True)
        for number, (words, epoch, value) in sorted(self._running.items()):
            table.add_row(
                str(number), f"epoch {epoch}/{self._record.epochs}", _figure(value), words
            )
        finished = [row for row in self._over if row[1] == "finished"]
        finished.sort(key=lambda row: row[2] if self._is_less_better else -row[2])
        for number, state, value, words in finished[:_SHOWN_BEST]:
            table.add_row(str(number), state, _figure(value), words)
        return Group(head, table)


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
