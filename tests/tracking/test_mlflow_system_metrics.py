import time

import pytest

from mono3d.tracking.mlflow_system_metrics import SystemMetricsSampler
from mono3d.tracking.records import MetricRecord


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[MetricRecord]:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    taken: list[MetricRecord] = []
    sampler = SystemMetricsSampler("http://127.0.0.1:1", taken.extend)
    time.sleep(0.45)
    sampler.stop()
    return taken


def test_samples_are_taken_without_a_server_until_stopped(records: list[MetricRecord]) -> None:
    count = len(records)
    assert count >= 3
    time.sleep(0.3)
    assert len(records) == count


def test_sample_has_mlflow_names_and_the_time_as_step(records: list[MetricRecord]) -> None:
    (names,) = {tuple(sorted(record.metrics)) for record in records}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(
        names
    )
    assert all(record.step == record.time_ms // 1000 for record in records)
    assert abs(records[-1].step - time.time()) < 5.0


def test_stopping_early_still_takes_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "3600")
    taken: list[MetricRecord] = []
    SystemMetricsSampler("http://127.0.0.1:1", taken.extend).stop()
    assert len(taken) == 1
