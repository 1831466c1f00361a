"""Where a run's numbers go. The driver creates runs; workers write a spool; a thread ships it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from mono3d.tracking.records import MetricRecord


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What a run is, fixed when it is created."""

    name: str
    """The run's name: unique and stable, so the same name finds the same run again."""
    params: Mapping[str, str]
    """The resolved config, flattened."""
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: "Tracker | str | None" = None
    """The run above it: its id, or its record while the server may not have told the id yet."""


@runtime_checkable
class Tracker(Protocol):
    """One run's record. No call raises because the server is slow or away; what is due waits."""

    @property
    def run_id(self) -> str | None:
        """Id of the run on the server, None while there is none."""
        ...

    def log_metrics(self, records: Sequence[MetricRecord]) -> None:
        """Queue scalars; a record that was acknowledged before is not sent twice."""
        ...

    def log_artifact(self, path: Path, folder: str) -> None:
        """Queue a file for upload under `folder`."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queue tags."""
        ...

    def describe(self, text: str) -> None:
        """Queue the run's description (Markdown), in place of an earlier one."""
        ...

    def log_json(self, facts: Mapping[str, object], folder: str, name: str) -> None:
        """Queue a JSON file `name` under `folder`, credentials hidden."""
        ...

    def log_dataset(self, *, name: str, digest: str, source: str, context: str) -> None:
        """Queue a data set as input of the run.

        Args:
            name: Of the data set.
            digest: Its fingerprint.
            source: Folder or URI.
            context: What it is used for, `training` or `evaluation`.
        """
        ...

    def log_checkpoint(self, uri: str, facts: Mapping[str, object]) -> None:
        """Queue where the best checkpoint is; it is not copied."""
        ...

    def log_model(
        self,
        network: nn.Module,
        inputs: Mapping[str, Tensor],
        *,
        name: str,
        registered_name: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """Export a network now (seconds) and queue its upload as a logged model of the run.

        Args:
            network: In evaluation mode, with tensors as inputs.
            inputs: Example inputs by name, in the order of forward; two samples or more leave
                the batch size free.
            name: Of the logged model inside the run.
            registered_name: Of the registered model that gets a new version.
            metadata: Kept in the model.
        """
        ...

    def close(self, status: str) -> bool:
        """Ship what is queued (bounded wait), then end the run: FINISHED, FAILED or KILLED.

        Returns:
            Whether the server has taken all of it; if not, the same run opened again and closed
            sends the rest.
        """
        ...


class NullTracker:
    """Records nothing; for runs without MLflow."""

    run_id: str | None = None

    def log_metrics(self, records: Sequence[MetricRecord]) -> None:
        """Nothing."""

    def log_artifact(self, path: Path, folder: str) -> None:
        """Nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Nothing."""

    def describe(self, text: str) -> None:
        """Nothing."""

    def log_json(self, facts: Mapping[str, object], folder: str, name: str) -> None:
        """Nothing."""

    def log_dataset(self, *, name: str, digest: str, source: str, context: str) -> None:
        """Nothing."""

    def log_checkpoint(self, uri: str, facts: Mapping[str, object]) -> None:
        """Nothing."""

    def log_model(
        self,
        network: nn.Module,
        inputs: Mapping[str, Tensor],
        *,
        name: str,
        registered_name: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """Nothing."""

    def close(self, status: str) -> bool:
        """Nothing is due."""
        return True
