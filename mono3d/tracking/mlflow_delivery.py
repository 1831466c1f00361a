"""What waits for an MLflow server, and its delivery."""

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from mono3d.errors import ServiceAwayError
from mono3d.tracking.mlflow_server import (
    METRICS_PER_CALL,
    MlflowServer,
    OpenRun,
    RejectedError,
    Scalar,
    send_the_acceptable,
)
from mono3d.tracking.outbox import Outbox, Parcel
from mono3d.tracking.provenance import code_tags, current_owner
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.redact import redact_values
from mono3d.tracking.spool import Spool
from mono3d.tracking.tracker import NullTracker, RunIdentity

_logger = logging.getLogger(__name__)


class MlflowDelivery:
    """The metrics, files and facts that one run owes to its server.

    Any thread adds; one thread calls `deliver`. Everything is on disk from the moment it is
    added until the server has it, metrics in memory too. A metric is sent only if its step is
    later than the last one that the server has of it, so records may be added again from any
    earlier step.
    """

    def __init__(
        self, server: MlflowServer, identity: RunIdentity, *, experiment: str, spool: Path
    ) -> None:
        self.outbox = Outbox(spool.with_name(f"{spool.name}.outbox"))
        self.run: OpenRun | None = None
        """None until the server was reached."""
        self.end_status: str | None = None
        """Set when nothing more will be added: the run is ended with it."""
        self._server = server
        self._identity = identity
        self._experiment = experiment
        self._spool = Spool(spool)
        self._due = deque(_scalars(self._spool.read()))
        self._lock = threading.Lock()
        self._is_disk_bad = False
        self._last_step: dict[str, int] = {}
        self._rejected_keys: set[str] = set()

    @property
    def num_due(self) -> int:
        """Metric values that wait."""
        return len(self._due)

    def add(self, records: Sequence[MetricRecord]) -> None:
        """Queue metrics."""
        with self._lock, self._disk():
            self._due.extend(_scalars(records))
            self._spool.append(records)

    def deliver(self) -> None:
        """Send everything that is due.

        Metrics go first, and the end of the run does not wait for files: the store behind the
        server may be away while the server is there.

        Raises:
            Exception: The server is slow or away; what it did not take is still due.
        """
        if self.run is None:
            self.run = self._open()
        self._deliver_metrics(self.run)
        try:
            self._deliver_parcels(self.run)
        finally:
            if self.end_status is not None:
                self._server.end_run(self.run.run_id, self.end_status)

    def _open(self) -> OpenRun:
        tags = {**code_tags(), **current_owner().to_tags()}
        run = self._server.open_run(
            self._identity, self._experiment, tags, parent_run_id=self._parent_run_id()
        )
        self._last_step.update(run.last_step)
        return run

    def _parent_run_id(self) -> str | None:
        """MLflow nests a run when it is created, so one whose parent is not there yet waits."""
        parent = self._identity.parent
        if parent is None or isinstance(parent, str | NullTracker):
            return parent if isinstance(parent, str) else None
        if parent.run_id is None:
            raise ServiceAwayError("the run above this one is not there yet")
        return parent.run_id

    def _deliver_metrics(self, run: OpenRun) -> None:
        while batch := self._oldest():
            unsent = list(self._unsent(batch))
            self._send(run.run_id, unsent)
            self._last_step.update((scalar.key, scalar.step) for scalar in unsent)
            for _ in batch:
                self._due.popleft()
        with self._lock, self._disk():
            if not self._due:
                self._spool.clear()

    def _oldest(self) -> list[Scalar]:
        with self._lock:
            return list(islice(self._due, METRICS_PER_CALL))

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """A full disk costs the metrics only their protection against a kill; said once."""
        try:
            yield
        except OSError as error:
            if not self._is_disk_bad:
                _logger.warning("metrics are kept in memory only: %s", error)
            self._is_disk_bad = True

    def _unsent(self, batch: Sequence[Scalar]) -> Iterator[Scalar]:
        """Without steps that the server has, and without repetitions inside the batch."""
        last_step = dict(self._last_step)
        for scalar in batch:
            if scalar.step > last_step.get(scalar.key, -1):
                last_step[scalar.key] = scalar.step
                yield scalar

    def _send(self, run_id: str, scalars: Sequence[Scalar]) -> None:
        def send(part: Sequence[Scalar]) -> None:
            accepted = [scalar for scalar in part if scalar.key not in self._rejected_keys]
            if accepted:
                self._server.log_scalars(run_id, accepted)

        def reject(scalar: Scalar, error: RejectedError) -> None:
            self._rejected_keys.add(scalar.key)
            _logger.warning("MLflow rejects metric %s: %s", scalar.key, error)

        send_the_acceptable(scalars, send, reject)

    def _deliver_parcels(self, run: OpenRun) -> None:
        for parcel in self.outbox.pending():
            try:
                self._hand_over(run, parcel)
            except RejectedError as error:
                fields = redact_values(parcel.fields)
                _logger.warning("MLflow rejects %s %s: %s", parcel.kind, fields, error)
            self.outbox.settle(parcel)

    def _hand_over(self, run: OpenRun, parcel: Parcel) -> None:
        match parcel.kind:
            case "tags":
                self._server.set_tags(run.run_id, parcel.fields)
            case "files":
                self._server.log_artifacts(run.run_id, parcel.content, **parcel.fields)
            case "dataset":
                self._server.log_dataset(run.run_id, **parcel.fields)
            case "model":
                self._server.log_model(run, parcel.content, **parcel.fields)
            case _:
                raise RejectedError("this version of mono3d does not know the kind")


def _scalars(records: Sequence[MetricRecord]) -> Iterator[Scalar]:
    for record in records:
        for key, value in record.metrics.items():
            yield Scalar(key, float(value), record.time_ms, record.step)
