"""What a benchmark says: rows of ratios, written to a file and printed.

A row misses its target only where the lower end of its interval does: the noise of a busy machine
is no failure.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Row:
    """One ratio to a peer, or to a limit, measured in one run."""

    name: str
    ratio: float
    target: float | None = None
    """At most this; None where the row only informs."""
    interval: tuple[float, float] | None = None
    """Of the ratio, at 95 %; None for counts and sizes."""
    detail: str = ""
    """What the ratio is made of, with units."""

    @property
    def holds(self) -> bool:
        """Whether the target is not surely missed."""
        lower = self.ratio if self.interval is None else self.interval[0]
        return self.target is None or lower <= self.target


def publish(benchmark: str, rows: Sequence[Row], folder: Path = RESULTS) -> int:
    """Write rows to a file of the benchmark's name and print them.

    Returns:
        Exit code: 1 if a row misses its target.
    """
    load = round(os.getloadavg()[0], 1)
    entries = [
        {
            **asdict(row),
            "ratio": _rounded(row.ratio),
            "interval": row.interval and [_rounded(end) for end in row.interval],
            "holds": row.holds,
            "load": load,
        }
        for row in rows
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{benchmark}.json").write_text(json.dumps(entries, indent=2) + "\n")
    print(f"{benchmark} (load {load})")
    for row in rows:
        print(_line(row))
    return int(not all(row.holds for row in rows))


def _line(row: Row) -> str:
    target = "" if row.target is None else f"at most {row.target:g}"
    spread = "" if row.interval is None else "{:.3g} to {:.3g}".format(*row.interval)
    verdict = "" if row.target is None else "holds" if row.holds else "MISSED"
    line = f"  {row.ratio:<8.4g} {spread:<16} {target:<12} {verdict:<7} {row.name}"
    return f"{line}: {row.detail}" if row.detail else line


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
