"""A run in MLflow. Calls queue and return; a thread does the talking, so training never waits."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copy2

from torch import Tensor, nn

from mono3d.errors import ConfigError
from mono3d.tracking.metric_groups import grouped
from mono3d.tracking.mlflow_delivery import MlflowDelivery
from mono3d.tracking.mlflow_model import save_model
from mono3d.tracking.mlflow_server import CHECKPOINT_TAG, MlflowServer
from mono3d.tracking.mlflow_system_metrics import SystemMetricsSampler
from mono3d.tracking.records import MetricRecord
from mono3d.tracking.redact import redact, redact_values
from mono3d.tracking.shipper import Shipper
from mono3d.tracking.tracker import RunIdentity

_logger = logging.getLogger(__name__)

_FIRST_CONTACT_S = 5.0
_DESCRIPTION_TAG = "mlflow.note.content"


class MlflowTracker:
    """A Tracker on an MLflow server.

    The run is found by its name, or created; a run that goes on becomes RUNNING again and keeps
    its params. While the server is slow or away everything waits on disk beside the spool, and
    one log line says so. Credentials in params, tags and JSON artifacts are hidden; files are
    sent as they are.
    """

    def __init__(
        self,
        identity: RunIdentity,
        *,
        experiment: str,
        tracking_uri: str,
        spool: Path,
        close_timeout_s: float,
    ) -> None:
        self._server = MlflowServer(tracking_uri)
        self._delivery = MlflowDelivery(self._server, identity, experiment=experiment, spool=spool)
        self._shipper = Shipper(f"MLflow at {self._server.name}", self._delivery.deliver)
        self._close_timeout_s = close_timeout_s
        self.log_json(identity.params, "config", "params.json")
        self._shipper.start(wait_s=_FIRST_CONTACT_S)
        self._sampler = SystemMetricsSampler(tracking_uri, self.log_metrics)

    @classmethod
    def start(
        cls,
        identity: RunIdentity,
        *,
        experiment: str,
        tracking_uri: str,
        spool: Path,
        close_timeout_s: float = 30.0,
    ) -> "MlflowTracker":
        """Start recording; waits up to 5 s for the server, so that `run_id` is usually known.

        Args:
            identity: The run. Its params are also stored whole as `config/params.json`, since
                MLflow clips long ones.
            experiment: Name of the MLflow experiment; created where there is none.
            tracking_uri: Of the server.
            spool: File for metrics; what an earlier process of this run left there is sent. The
                folder `<spool>.outbox` beside it holds files. One run, one spool.
            close_timeout_s: Longest time that `close` takes.

        Raises:
            ConfigError: If the run's name has a quote in it, which MLflow cannot search for.
        """
        if "'" in identity.name:
            raise ConfigError(f"run name {identity.name!r}: must not have a quote in it")
        return cls(
            identity,
            experiment=experiment,
            tracking_uri=tracking_uri,
            spool=spool,
            close_timeout_s=close_timeout_s,
        )

    @property
    def run_id(self) -> str | None:
        """Id of the run on the server, None until the server was reached."""
        run = self._delivery.run
        return None if run is None else run.run_id

    def log_metrics(self, records: Sequence[MetricRecord]) -> None:
        """Queue scalars; of each metric only steps later than the last one sent are sent.

        Those that are looked at first are sent under the names of `metric_groups` too, and before
        the others, because MLflow lists them in that order.
        """
        self._delivery.add([_with_groups(record) for record in records])
        self._shipper.wake()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queue tags."""
        with self._post("tags", tags):
            pass

    def describe(self, text: str) -> None:
        """Queue the run's description (Markdown), in place of an earlier one."""
        self.set_tags({_DESCRIPTION_TAG: text})

    def log_artifact(self, path: Path, folder: str) -> None:
        """Queue a copy of a file for upload under `folder`; the original may then go."""
        with self._post("files", {"folder": folder}) as content:
            copy2(path, content)

    def log_json(self, facts: Mapping[str, object], folder: str, name: str) -> None:
        """Queue a JSON file, credentials hidden."""
        texts = redact_values({key: v for key, v in facts.items() if isinstance(v, str)})
        with self._post("files", {"folder": folder}) as content:
            (content / name).write_text(redact(json.dumps({**facts, **texts}, indent=2)))

    def log_checkpoint(self, uri: str, facts: Mapping[str, object]) -> None:
        """Queue where the best checkpoint is (tag and `checkpoint.json`); it is not copied."""
        self.set_tags({CHECKPOINT_TAG: uri})
        self.log_json({"uri": uri, **facts}, "", "checkpoint.json")

    def log_dataset(self, *, name: str, digest: str, source: str, context: str) -> None:
        """Queue a data set as input; MLflow shows 36 characters of the digest, and stores all."""
        facts = {"name": name, "digest": digest, "source": source, "context": context}
        with self._post("dataset", facts):
            pass

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

        `mlflow.pytorch.load_model` brings it back from `runs:/<run id>/<name>`, and from
        `models:/<registered_name>/<version>` if a name to register under is given. A network
        that cannot be exported is said and left out. See `save_model` for the arguments.
        """
        fields = {"name": name, "registered_name": registered_name or ""}
        with self._post("model", fields) as content:
            save_model(network, inputs, content, redact_values(metadata))

    def close(self, status: str) -> bool:
        """Send what is queued, for at most `close_timeout_s`, then end the run.

        Args:
            status: FINISHED, FAILED or KILLED.

        Returns:
            Whether the server has taken all of it.
        """
        self._sampler.stop()
        self._delivery.end_status = status
        has_taken_all = self._shipper.close(self._close_timeout_s)
        if not has_taken_all:
            self._say_what_is_left()
        return has_taken_all

    @contextmanager
    def _post(self, kind: str, fields: Mapping[str, str]) -> Iterator[Path]:
        """Queue a parcel; what cannot be queued is said and left out, training goes on."""
        try:
            # Hidden here too, not only when it is sent: what waits lies on disk.
            with self._delivery.outbox.post(kind, redact_values(fields)) as content:
                yield content
        except Exception as error:
            _logger.warning("%s %s is not sent to MLflow: %s", kind, redact_values(fields), error)
        self._shipper.wake()

    def _say_what_is_left(self) -> None:
        outbox = self._delivery.outbox
        _logger.warning(
            "MLflow at %s did not take everything: %d metric values and %d files or facts stay "
            "in %s; they are sent when the run is started again",
            self._server.name,
            self._delivery.num_due,
            len(outbox.pending()),
            outbox.folder.parent,
        )


def _with_groups(record: MetricRecord) -> MetricRecord:
    return replace(record, metrics={**grouped(record.metrics), **record.metrics})
