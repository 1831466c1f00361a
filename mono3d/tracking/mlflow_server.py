"""The requests that one run makes to an MLflow server; every one can safely be made again."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from mono3d.tracking import mlflow_environment  # noqa: F401

# isort: split
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from mono3d.tracking.metric_groups import CORE_METRICS
from mono3d.tracking.mlflow_views import COMPARED_TAGS, STUDY_TAGS, runs_view
from mono3d.tracking.redact import redact, redact_values
from mono3d.tracking.tracker import RunIdentity

_logger = logging.getLogger(__name__)

_Item = TypeVar("_Item")

RUN_NAME_TAG = "mono3d.run_name"
CHECKPOINT_TAG = "mono3d.checkpoint_uri"
METRICS_PER_CALL = 1000
"""MLflow's limit for one `log_batch`."""

_PARAMS_PER_CALL = 100
_PARAM_LENGTH = 6000
_DIGEST_LENGTH = 36
_REJECTION = "INVALID_PARAMETER_VALUE"
"""Other codes, BAD_REQUEST among them, are also used for troubles of the server's database."""
_EXPERIMENT_TAGS = {
    # What it is; whether the UI opens it so depends on what its user chose last.
    "mlflow.experimentKind": "custom_model_development",
    **runs_view("mono3d", tags=(*STUDY_TAGS, *COMPARED_TAGS), metrics=CORE_METRICS),
}


class RejectedError(Exception):
    """The server, or its client library, will never accept this; asking again is useless."""


class Scalar(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    time_ms: int
    step: int


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run that exists on the server and is RUNNING."""

    run_id: str
    experiment_id: str
    last_step: Mapping[str, int]
    """Of each metric that the server already has, the last step."""


class MlflowServer:
    """The server behind a tracking URI, as one run uses it.

    Methods raise RejectedError for what can never be accepted, and whatever MLflow raises when
    the server is slow or away.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.name = redact(tracking_uri)
        self._client = MlflowClient(tracking_uri)

    def open_run(
        self,
        identity: RunIdentity,
        experiment: str,
        tags: Mapping[str, str],
        *,
        parent_run_id: str | None = None,
    ) -> OpenRun:
        """Find the run of this name, or create it below its parent; set it RUNNING.

        Params are written where the server has none of that name, so they are logged once and
        a creation that was interrupted is completed.
        """
        run = self._find(identity.name, experiment)
        run = run or self._create(identity, experiment, parent_run_id)
        run_id = run.info.run_id
        self.set_tags(run_id, tags)
        self._log_params(run_id, _missing(identity.params, run.data.params))
        if run.info.status != "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        return OpenRun(
            run_id=run_id,
            experiment_id=run.info.experiment_id,
            # The public `data.metrics` has the last values without their steps.
            last_step={metric.key: metric.step for metric in run.data._metric_objs},
        )

    def log_scalars(self, run_id: str, scalars: Sequence[Scalar]) -> None:
        """Write up to METRICS_PER_CALL values; the server ignores those it has, to the time."""
        with _rejections():
            self._client.log_batch(run_id, metrics=[Metric(*scalar) for scalar in scalars])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags, credentials redacted."""
        safe = redact_values(tags)
        with _rejections():
            self._client.log_batch(run_id, tags=[RunTag(*item) for item in safe.items()])

    def log_artifacts(self, run_id: str, content: Path, folder: str) -> None:
        """Upload all files of `content` to `folder`."""
        with _rejections():
            self._client.log_artifacts(run_id, str(content), folder or None)

    def log_dataset(
        self, run_id: str, *, name: str, digest: str, source: str, context: str
    ) -> None:
        """Name a data set as input of the run; MLflow keeps 36 characters of the digest."""
        dataset = Dataset(
            name=name,
            digest=digest[:_DIGEST_LENGTH],
            source_type="s3" if source.startswith("s3://") else "local",
            source=json.dumps({"uri": redact(source)}),
            profile=json.dumps({"fingerprint": digest}),
        )
        tags = [InputTag("mlflow.data.context", context)]
        with _rejections():
            self._client.log_inputs(run_id, [DatasetInput(dataset, tags)])

    def log_model(self, run: OpenRun, saved: Path, *, name: str, registered_name: str) -> None:
        """Upload a model that was saved to the folder `saved` as a logged model of the run.

        `models:/{registered_name}/N` is made too, unless the name is empty.
        """
        with _rejections():
            model_id = self._begin_model(run, name)
            _address(saved, run_id=run.run_id, model_id=model_id)
            self._attach_model(run.run_id, model_id)
            self._client.log_model_artifacts(model_id, str(saved))
            if registered_name:
                self._register(registered_name, f"models:/{model_id}", run.run_id, model_id)
            self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)

    def end_run(self, run_id: str, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        with _rejections():
            self._client.set_terminated(run_id, status)

    def _find(self, name: str, experiment: str) -> Run | None:
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            return None
        runs = self._client.search_runs(
            [found.experiment_id],
            filter_string=f"tags.`{RUN_NAME_TAG}` = '{name}'",
            max_results=1,
        )
        return runs[0] if runs else None

    def _create(self, identity: RunIdentity, experiment: str, parent_run_id: str | None) -> Run:
        tags = {**redact_values(identity.tags), RUN_NAME_TAG: identity.name}
        if parent_run_id is not None:
            tags["mlflow.parentRunId"] = parent_run_id
        return self._client.create_run(
            self._experiment_id(experiment), tags=tags, run_name=identity.name
        )

    def _experiment_id(self, name: str) -> str:
        """Found or created; another run may create it at the same moment."""
        try:
            return str(self._client.create_experiment(name, tags=_EXPERIMENT_TAGS))
        except MlflowException as error:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise error
            return str(found.experiment_id)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        def send(part: Sequence[Param]) -> None:
            with _rejections():
                self._client.log_batch(run_id, params=part)

        def reject(param: Param, error: RejectedError) -> None:
            _logger.warning("MLflow rejects param %s: %s", param.key, error)

        clipped = [Param(key, clip_param(value)) for key, value in params.items()]
        for first in range(0, len(clipped), _PARAMS_PER_CALL):
            send_the_acceptable(clipped[first : first + _PARAMS_PER_CALL], send, reject)

    def _begin_model(self, run: OpenRun, name: str) -> str:
        """A logged model to fill: the one an interrupted upload began, or a new one."""
        models = self._client.search_logged_models(
            [run.experiment_id], filter_string=f"name = '{name}'"
        )
        for model in models:
            if model.source_run_id == run.run_id and model.status == LoggedModelStatus.PENDING:
                return str(model.model_id)
        created = self._client.create_logged_model(
            run.experiment_id, name=name, source_run_id=run.run_id
        )
        return str(created.model_id)

    def _attach_model(self, run_id: str, model_id: str) -> None:
        """Make the model an output of the run; MLflow refuses to be told twice."""
        outputs = self._client.get_run(run_id).outputs
        if all(output.model_id != model_id for output in outputs.model_outputs):
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])

    def _register(self, name: str, source: str, run_id: str, model_id: str) -> None:
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        versions = self._client.search_model_versions(f"name = '{name}'")
        if all(version.source != source for version in versions):
            self._client.create_model_version(name, source, run_id, model_id=model_id)


def send_the_acceptable(
    items: Sequence[_Item],
    send: Callable[[Sequence[_Item]], None],
    reject: Callable[[_Item, RejectedError], None],
) -> None:
    """Send items together; where that is rejected, halve them until the culprits are alone.

    Args:
        items: What to send.
        send: Sends several at once; raises RejectedError if it must not contain one of them.
        reject: Told of each item that cannot be sent even alone.
    """
    try:
        send(items)
    except RejectedError as error:
        if len(items) == 1:
            reject(items[0], error)
            return
        half = len(items) // 2
        send_the_acceptable(items[:half], send, reject)
        send_the_acceptable(items[half:], send, reject)


def clip_param(value: str) -> str:
    """A param value within MLflow's limit; what was cut off is in the config artifact."""
    return value if len(value) <= _PARAM_LENGTH else value[: _PARAM_LENGTH - 3] + "..."


@contextmanager
def _rejections() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code == _REJECTION:
            raise RejectedError(str(error).splitlines()[0]) from error
        raise


def _missing(wanted: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in redact_values(wanted).items() if key not in present}


def _address(saved: Path, *, run_id: str, model_id: str) -> None:
    """Write into a saved model whose it is; it was saved before the server knew of it."""
    model = Model.load(str(saved))
    model.run_id, model.model_id, model.model_uuid = run_id, model_id, model_id
    model.save(str(saved / "MLmodel"))
