"""Questions about runs on an MLflow server, for commands. Nothing here waits 10 s for an answer."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mono3d.tracking import mlflow_environment  # noqa: F401

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from mono3d.errors import ConfigError, ServiceAwayError, ServiceError
from mono3d.tracking.mlflow_server import CHECKPOINT_TAG, RUN_NAME_TAG
from mono3d.tracking.provenance import Owner, owner_from_tags
from mono3d.tracking.redact import redact
from mono3d.tracking.shipper import root_cause

_PROBE_TIMEOUT_S = 5
_UNKNOWN = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What the server knows about a run."""

    run_id: str
    name: str
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """Of each metric the value of the last step."""
    checkpoint_uri: str | None


def check_server(tracking_uri: str) -> str:
    """Version of the MLflow server behind an HTTP address; empty for a database or folder.

    Raises:
        ServiceAwayError: If nothing answers.
        ServiceError: If something answers that is not an MLflow server.
    """
    if not tracking_uri.startswith(("http://", "https://")):
        return ""
    name = redact(tracking_uri)
    try:
        answer = http_request(
            get_default_host_creds(tracking_uri),
            "/version",
            "GET",
            max_retries=0,
            timeout=_PROBE_TIMEOUT_S,
        )
    except MlflowException as error:
        raise ServiceAwayError(
            f"MLflow at {name} does not answer ({root_cause(error)}): start it, or correct the "
            "tracking URI"
        ) from error
    if answer.status_code != 200 or not re.fullmatch(r"\d+\.\d+\.\S+", answer.text.strip()):
        raise ServiceError(
            f"{name} is not an MLflow server (/version answers {answer.status_code}): correct "
            "the tracking URI"
        )
    return str(answer.text.strip())


def find_run(tracking_uri: str, run_id: str) -> RunInfo:
    """Look a run up by its id.

    Raises:
        ConfigError: If the server has no such run.
        ServiceError: If the server is not there or is not MLflow.
    """
    check_server(tracking_uri)
    with _answers(tracking_uri):
        try:
            run = MlflowClient(tracking_uri).get_run(run_id)
        except MlflowException as error:
            if error.error_code not in _UNKNOWN:
                raise
            raise ConfigError(
                f"run id {run_id!r}: MLflow at {redact(tracking_uri)} has no such run"
            ) from error
    return _info(run)


def finished_runs(tracking_uri: str, experiment: str, query: str) -> list[RunInfo]:
    """Runs of ours that are FINISHED and that a query finds.

    Args:
        tracking_uri: Of the server.
        experiment: Its name; an unknown one has no runs.
        query: In MLflow's language for searching runs; empty finds all.

    Raises:
        ConfigError: MLflow does not understand the query.
        ServiceError: If the server is not there or is not MLflow.
    """
    check_server(tracking_uri)
    conditions = ["attributes.status = 'FINISHED'", *([query] if query.strip() else [])]
    with _answers(tracking_uri):
        try:
            return [
                _info(run)
                for run in _search(MlflowClient(tracking_uri), experiment, " and ".join(conditions))
            ]
        except MlflowException as error:
            if error.error_code not in _UNKNOWN:
                raise
            raise ConfigError(f"query {query!r}: {str(error).splitlines()[0]}") from error


def reap(tracking_uri: str, experiment: str, is_alive: Callable[[Owner], bool]) -> list[str]:
    """Set to KILLED the runs of ours that are RUNNING though their process is gone.

    Args:
        tracking_uri: Of the server.
        experiment: Name of the experiment to look through; an unknown one has no runs.
        is_alive: Whether a run's process still runs, such as `provenance.is_process_alive`, or
            a question to the Ray cluster about the job.

    Returns:
        Ids of the runs that were set.

    Raises:
        ServiceError: If the server is not there or is not MLflow.
    """
    check_server(tracking_uri)
    client = MlflowClient(tracking_uri)
    with _answers(tracking_uri):
        dead = [run.info.run_id for run in _running(client, experiment) if _is_dead(run, is_alive)]
        for run_id in dead:
            client.set_terminated(run_id, "KILLED")
    return dead


def _running(client: MlflowClient, experiment: str) -> Iterator[Run]:
    return _search(client, experiment, "attributes.status = 'RUNNING'")


def _search(client: MlflowClient, experiment: str, condition: str) -> Iterator[Run]:
    """All runs of ours in an experiment that meet a condition, page by page."""
    found = client.get_experiment_by_name(experiment)
    token = None
    while found is not None:
        page = client.search_runs(
            [found.experiment_id],
            filter_string=f"{condition} and tags.`{RUN_NAME_TAG}` LIKE '%'",
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _is_dead(run: Run, is_alive: Callable[[Owner], bool]) -> bool:
    owner = owner_from_tags(run.data.tags)
    return owner is not None and not is_alive(owner)


def _info(run: Run) -> RunInfo:
    return RunInfo(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        params=run.data.params,
        tags=run.data.tags,
        metrics=run.data.metrics,
        checkpoint_uri=run.data.tags.get(CHECKPOINT_TAG),
    )


@contextmanager
def _answers(tracking_uri: str) -> Iterator[None]:
    """Turn what the server or the client library says into one line."""
    try:
        yield
    except MlflowException as error:
        raise ServiceError(f"MLflow at {redact(tracking_uri)}: {root_cause(error)}") from error
