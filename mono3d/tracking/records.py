"""Metrics on their way, in a file that imports no torch: small processes pass them on."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MetricRecord:
    """Scalars of one moment of a run, as one line of the spool."""

    step: int
    """Optimiser steps done."""
    time_ms: int
    """Unix time in milliseconds, set when the record was made."""
    metrics: Mapping[str, float]
