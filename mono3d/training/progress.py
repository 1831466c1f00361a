"""What is shown of a run, whether it runs in this process or on a cluster."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mono3d.tracking.records import MetricRecord


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands, with a record or without."""

    step: int
    """Optimiser steps done."""
    total_steps: int
    """Of the whole run."""
    epoch: int
    """Epochs done."""
    record: MetricRecord | None = None
    """Metrics of the last steps or of an evaluation; None where an evaluation begins."""


@runtime_checkable
class ProgressSink(Protocol):
    """Who watches."""

    def update(self, progress: Progress) -> None:
        """The run has moved on."""
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
