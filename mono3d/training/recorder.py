"""What rank 0 does around the loop: metrics to a file and to whoever watches, and checkpoints."""

import time
from collections.abc import Callable, Mapping

from mono3d.errors import StorageError
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.spool import Spool
from mono3d.training.progress import Progress
from mono3d.training.state import TrainState

Emit = Callable[[Progress], None]
Keep = Callable[[TrainState, Mapping[str, float]], None]


class RunRecorder:
    """A `RunObserver` that writes a spool before anything else, so that no metric is lost."""

    def __init__(self, spool: Spool, *, total_steps: int, emit: Emit, keep: Keep) -> None:
        """Record into `spool`, show to `emit`, hand states to `keep`."""
        self._spool = spool
        self._total_steps = total_steps
        self._emit = emit
        self._keep = keep

    def replay(self, state: TrainState) -> None:
        """Show again what an earlier process recorded; receivers know what they have."""
        for record in self._spool.read():
            self._emit(self._progress(state, record))

    def on_records(self, state: TrainState, record: MetricRecord) -> None:
        """Write and show.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            self._spool.append([record])
        except OSError as error:
            raise StorageError(f"cannot write {self._spool.path}: {error.strerror}") from error
        self._emit(self._progress(state, record))

    def on_evaluate(self, state: TrainState) -> None:
        """Show that it begins."""
        self._emit(self._progress(state, None))

    def on_save(
        self, state: TrainState, metrics: Mapping[str, float], *, epoch_ended: bool
    ) -> None:
        """Write and show an evaluation, then keep the state with it."""
        if metrics:
            now_ms = int(time.time() * 1000)
            self.on_records(state, MetricRecord(step=state.step, time_ms=now_ms, metrics=metrics))
        self._keep(state, metrics)

    def _progress(self, state: TrainState, record: MetricRecord | None) -> Progress:
        return Progress(
            step=state.step, total_steps=self._total_steps, epoch=state.epoch, record=record
        )
