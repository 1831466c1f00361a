"""System metrics of this machine, under MLflow's names."""

import threading
import time
from collections.abc import Callable, Sequence

from mono3d.tracking import mlflow_environment  # noqa: F401

# isort: split
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from mono3d.tracking.records import MetricRecord


class SystemMetricsSampler:
    """A thread that samples CPU, memory, disk, network and GPU until it is stopped.

    MLflow's monitor takes the samples; its own thread is not used, because that ends for good
    when the server does not answer once. The interval is MLflow's: 10 s, or what the environment
    variable MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says. A sample's step is its Unix time in
    seconds, so that steps go on growing when the run is resumed by another process.
    """

    def __init__(self, tracking_uri: str, sink: Callable[[Sequence[MetricRecord]], None]) -> None:
        # The run id serves the monitor's own thread only.
        self._monitor = SystemMetricsMonitor(run_id="", tracking_uri=tracking_uri)
        self._sink = sink
        self._stopped = threading.Event()
        self._sample()  # CPU load is a mean since the call before: the first has no meaning
        self._thread = threading.Thread(target=self._run, name="system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopped.wait(self._monitor.sampling_interval)
            now_s = time.time()
            metrics = {f"system/{key}": value for key, value in self._sample().items()}
            self._sink([MetricRecord(step=int(now_s), time_ms=int(now_s * 1000), metrics=metrics)])

    def _sample(self) -> dict[str, float]:
        self._monitor.collect_metrics()
        metrics = {key: float(value) for key, value in self._monitor.aggregate_metrics().items()}
        for monitor in self._monitor.monitors:
            monitor.clear_metrics()
        return metrics
