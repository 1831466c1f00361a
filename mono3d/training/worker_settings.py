"""What a worker of a run on Ray is told; imports nothing that only workers need."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mono3d.training.parts import BuildParts

SCORE = "score"
"""Name under which Ray gets a checkpoint's score; more is better."""


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker is told."""

    config: Mapping[str, Any]
    """The resolved config as a tree."""
    location: str
    """The run's folder."""
    directory: str
    """Where relative paths of the config start."""
    mailbox: Any
    """Handle of the mailbox actor."""
    build: "BuildParts | None" = None
    """How it comes to its parts; None is `build_parts`."""
    is_judged: bool = False
    """Whether rank 0 asks after each evaluation if the run goes on."""
