"""A connection to Ray: the cluster of this job or of RAY_ADDRESS, else one of our own."""

import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import ray

from mono3d.config.training_sections import ClusterConfig
from mono3d.errors import ConfigError, ServiceError
from mono3d.services.interruption import terminations_raised

_SETTINGS = {
    # The controller fetches reports when it polls: with Ray's 2 s every checkpoint waits 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # prints every line twice
    # Workers import torch and transformers while they start: on a busy machine longer than 60 s.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "180",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own 15 would leave training what everything else on the machine does not want.
    "RAY_worker_niceness": "0",
    # Ray 2.60 warns of a coming change that a run without GPUs does not care about.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_DRIVERS_OWN = ("MLFLOW_", "MONO3D_SEARCHES", "PGPASS")
"""Beginnings of names in the environment."""
_ANSWER_S = 5.0
_OBJECT_STORE_BYTES = 256 * 1024**2
"""Batches and weights do not pass through Ray's object store."""


@contextmanager
def ray_session(cluster: ClusterConfig, *, has_dashboard: bool) -> Iterator[None]:
    """Be connected; a connection that exists is used and left as it is.

    Inside, SIGTERM (as `ray job stop` sends) raises SystemExit, so that records are closed.

    Args:
        cluster: What the run needs; a cluster of our own has CPUs enough.
        has_dashboard: Of a cluster of our own. Search needs it: without it Ray does not notice
            that a stopped trial has left its resources behind.

    Raises:
        ConfigError: The machine has fewer GPUs than the run asks for.
        ServiceError: The cluster cannot be reached or does not start.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield
        return
    try:
        is_own = _connect(cluster, has_dashboard)
    except (OSError, RuntimeError, ValueError) as error:
        where = os.environ.get("RAY_ADDRESS") or "this machine"
        raise ServiceError(
            f"Ray at {where} cannot be used: {str(error).splitlines()[0]}; correct RAY_ADDRESS, or "
            "unset it for a cluster on this machine"
        ) from error
    try:
        if is_own:
            _check_gpus(cluster)
        # Ray's own handler of SIGTERM, which it has just set, ends the process where it stands.
        with terminations_raised():
            yield
    finally:
        ray.shutdown()


def shortage(cluster: ClusterConfig) -> str | None:
    """What a run waits for in the connected cluster, which may still grow; None if nothing."""
    resources = ray.cluster_resources()
    for kind, each in (("CPU", cluster.cpus_per_worker), ("GPU", cluster.gpus_per_worker)):
        needed, found = cluster.workers * each, resources.get(kind, 0)
        if found < needed:
            return f"{cluster.workers} workers need {needed:g} {kind}s, there are {found:g}"
    return None


def places(cluster: ClusterConfig, *, memory_bytes: int = 0) -> int:
    """How many runs of this size the connected cluster has room for at a time, at least 1.

    Args:
        cluster: Settings of one run.
        memory_bytes: What each of them asks Ray for besides.
    """
    resources: dict[str, float] = ray.cluster_resources()
    needed = {
        "CPU": cluster.workers * cluster.cpus_per_worker,
        "GPU": cluster.workers * cluster.gpus_per_worker,
        "memory": memory_bytes,
    }
    room = [resources.get(kind, 0) / each for kind, each in needed.items() if each]
    return max(1, math.floor(min(room)))


def _check_gpus(cluster: ClusterConfig) -> None:
    lacking = shortage(cluster)
    if lacking is not None:
        raise ConfigError(f"cluster.gpus_per_worker={cluster.gpus_per_worker:g}: {lacking}")


def _connect(cluster: ClusterConfig, has_dashboard: bool) -> bool:
    """Whether the cluster is our own."""
    address = os.environ.get("RAY_ADDRESS", "")
    if (address and address != "local") or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        _check_answers(address)
        ray.init(address=address or "auto", log_to_driver=False, logging_level="error")
        return False
    # A watcher of cloud machines that are about to be taken away: one process less on this one.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    needed = math.ceil(cluster.workers * cluster.cpus_per_worker)
    with _without_credentials():
        ray.init(
            address="local",
            num_cpus=max(needed, os.cpu_count() or 1),
            include_dashboard=has_dashboard,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="error",
        )
    # Ray makes it at its first cluster, as readable as the user's other files: it is a password.
    with suppress(OSError):
        (Path.home() / ".ray" / "auth_token").chmod(0o600)
    return True


def _check_answers(address: str) -> None:
    """Ray itself tries for minutes.

    Raises:
        OSError: Nobody answers at host:port; other forms of address are left to Ray.
    """
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_S).close()


@contextmanager
def _without_credentials() -> Iterator[None]:
    """Processes of the cluster inherit this environment; the driver's credentials are not for them.

    Those of MLflow and of the database of searches.
    """
    hidden = {name: value for name, value in os.environ.items() if name.startswith(_DRIVERS_OWN)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
