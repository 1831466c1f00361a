"""What is shown of a run, whether it runs in this process or on a cluster."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mono3d.tracking.tracker import MetricRecord


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A record and where the run stood."""

    record: MetricRecord
    epoch: int
    """Epochs done."""
    total_steps: int
    """Of the whole run."""


@runtime_checkable
class ProgressSink(Protocol):
    """Who watches."""

    def update(self, progress: Progress) -> None:
        """Metrics of the last steps, or of an evaluation."""
        ...

    def say(self, line: str) -> None:
        """One line about the run that the user should see."""
        ...


class NoDisplay:
    """Shows nothing."""

    def update(self, progress: Progress) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""
