"""What is known before a search begins: trials of an earlier one, or runs in MLflow.

They stand in the search's database as finished trials, marked with where they come from, and count
for its sampler and its ranking, not for its budget.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FixedTrial, TrialState

from mono3d.config.load import flatten
from mono3d.errors import ConfigError
from mono3d.search.record import OVERRIDES, SAME_AS, SearchRecord, is_finite, open_search
from mono3d.search.settings import SearchSettings
from mono3d.search.space import Space, overrides_of
from mono3d.search.space_points import params_from

_MARK = "imported"
_EPOCHS = "train.epochs"


@dataclass(frozen=True, kw_only=True)
class Known:
    """A result from elsewhere."""

    origin: str
    """Names it among all."""
    settings: Mapping[str, Any]
    """Config path → value, of all that the space may ask for; texts are read as YAML."""
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where results come from."""

    name: str
    known: Iterable[Known]


def sources_of(storage: RDBStorage, settings: SearchSettings, experiment: str) -> list[Source]:
    """All that a search is to know before it begins.

    Args:
        storage: Its database.
        settings: Of the search.
        experiment: Where MLflow is asked.

    Raises:
        Mono3dError: As `earlier_search` and `mlflow_runs` do.
    """
    sources = [earlier_search(storage, name) for name in settings.warm_start]
    if settings.warm_start_mlflow is not None:
        sources.append(mlflow_runs(experiment, settings.warm_start_mlflow))
    return sources


def earlier_search(storage: RDBStorage, name: str) -> Source:
    """The finished trials of another search in the same database.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in optuna.get_all_study_names(storage):
        raise ConfigError(f"--warm-start {name}: the database has no such search")
    record = open_search(storage, name)
    known = [
        Known(
            origin=f"{name} #{trial.number}",
            settings=flatten(record.config_of(trial.number)),
            metrics=dict(zip(record.settings.objectives, trial.values, strict=True)),
        )
        for trial in record.own_trials()
        if trial.state == TrialState.COMPLETE and SAME_AS not in trial.user_attrs
    ]
    return Source(name=name, known=known)


def mlflow_runs(experiment: str, query: str) -> Source:
    """Finished runs in MLflow that a query finds, with their last metrics.

    Args:
        experiment: Its name.
        query: As in MLflow's search field, such as ``tags.mining = 'gmm'``.

    Raises:
        ConfigError: MLFLOW_TRACKING_URI is not set, or the query is none.
        ServiceError: The server is not there.
    """
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not tracking_uri:
        raise ConfigError("--warm-start-mlflow: needs MLFLOW_TRACKING_URI")
    from mono3d.tracking.mlflow_runs import finished_runs

    known = [
        Known(origin=f"MLflow run {run.run_id}", settings=run.params, metrics=run.metrics)
        for run in finished_runs(tracking_uri, experiment, query)
    ]
    return Source(name=f"MLflow, {query}", known=known)


def take_over(source: Source, record: SearchRecord, space: Space) -> str:
    """Add what fits the space and was measured; what is there already is not added again.

    Returns:
        A line for the user.
    """
    objectives = list(record.settings.objectives)
    there = {trial.user_attrs.get(_MARK) for trial in record.study.get_trials(deepcopy=False)}
    added, reasons = 0, []
    for known in source.known:
        if known.origin in there:
            continue
        other = _measured_otherwise(known.settings, flatten(record.config), record.epochs)
        if other is not None:
            reasons.append(f"{known.origin} has {other}={known.settings[other]}")
            continue
        if not is_finite(known.metrics, objectives):
            reasons.append(f"{known.origin} was not measured by {objectives[0]}")
            continue
        try:
            params, distributions = params_from(space, known.settings)
        except ConfigError as error:
            reasons.append(f"{known.origin}: {error}")
            continue
        record.study.add_trial(
            optuna.create_trial(
                params=params,
                distributions=distributions,
                values=[known.metrics[metric] for metric in objectives],
                user_attrs={
                    _MARK: known.origin,
                    OVERRIDES: dict(overrides_of(space, FixedTrial(params))),
                },
            )
        )
        added += 1
    line = f"warm start: {added} results of {source.name}"
    return line + (f"; {len(reasons)} do not fit, the first: {reasons[0]}" if reasons else "")


def _measured_otherwise(
    theirs: Mapping[str, Any], ours: Mapping[str, str], epochs: int
) -> str | None:
    """The first key by which a result cannot stand beside those of a search: data, and length."""
    ours = {**ours, _EPOCHS: str(epochs)}
    compared = [key for key in ours if key.startswith("data.") or key == _EPOCHS]
    return next((k for k in compared if k in theirs and str(theirs[k]) != ours[k]), None)
