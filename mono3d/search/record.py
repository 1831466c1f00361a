"""One search in its database: what was asked for, which trials there are, and what became of them.

With the names of the runs this is all that a search knows; Ray Tune is started anew from it. What
a killed process left running is proposed again first, under its own number, and its run goes on
from its last checkpoint.
"""

import json
import math
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState

from mono3d.config.load import apply_overrides, parse
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.search.samplers import grid_size, make_pruner, make_sampler
from mono3d.search.settings import Budget, SearchSettings, read_settings
from mono3d.search.space import Space, SpaceShape, overrides_of
from mono3d.search.space_points import defaults_of
from mono3d.training.run_record import run_location

_SETTINGS = "settings"
_MEASURED = "is_measured"
_OWED = "owed"
_BEGUN = "is_begun"
_BAD_AFTER = "bad_after"
"""Of a trial: the epoch after which it was found worse than others."""
OVERRIDES = "overrides"
"""What a trial changes in the recipe; of one from elsewhere, too."""
SAME_AS = "same_as"
"""Of a trial that was not run: an earlier one, which has its settings and so its values."""
_MOST_INVALID = 20
"""Draws in a row that the schema refuses, before the space is taken to be wrong."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial to run, or to go on with."""

    number: int
    settings: Mapping[str, Any]
    """Config path → value: what was fixed and suggested."""
    configs: Sequence[RunConfig]
    """One for each seed."""
    run_names: Sequence[str]
    is_resumed: bool = False
    same_as: int | None = None
    """An earlier trial of the same settings, whose end is known: seeds are the same too."""


class SearchRecord:
    """The searched trials of one study, for one process at a time."""

    def __init__(self, study: optuna.Study, settings: SearchSettings, storage: RDBStorage) -> None:
        """Of a study that `create_search` or `open_search` made, in its database."""
        self.study = study
        self.storage = storage
        self.settings = settings
        self._trials: dict[int, Trial] = {}
        self._began_s: dict[int, float] = {}
        self._stored_seconds: dict[int, float] = {}
        self._epochs: dict[int, int] = {}

    @property
    def name(self) -> str:
        """Of the search."""
        return str(self.study.study_name)

    @property
    def metric(self) -> str:
        """The one that early stopping looks at; with several objectives the first."""
        return next(iter(self.settings.objectives))

    def prepare(self, space: Space, shape: SpaceShape) -> None:
        """Before proposals: what is proposed from, and who stops trials.

        Raises:
            ConfigError: The recipe does not fit the schema.
        """
        self._space, self._shape = space, shape
        self.config = parse(self.settings.tree, source=self.settings.recipe)
        self.epochs = usual_config(self.settings, space).train.epochs
        self.study.pruner = make_pruner(self.settings, self.epochs)
        self._unfinished = [
            trial for trial in self.study.get_trials(False, (TrialState.RUNNING,)) if _is_own(trial)
        ]

    def epochs_of(self, number: int) -> int:
        """That a trial which was proposed here is to have."""
        return self._epochs[number]

    @property
    def has_unfinished(self) -> bool:
        """Whether trials of earlier calls wait to go on."""
        return bool(self._unfinished)

    def raise_budget(self, budget: Budget) -> None:
        """Go on with another one."""
        self.settings = self.settings.model_copy(update={"budget": budget})
        self.study.set_user_attr(_SETTINGS, self.settings.model_dump(mode="json"))

    def propose(self) -> Proposal | None:
        """The next trial; None if as many as the budget has are there.

        Raises:
            ConfigError: The space proposes what the schema refuses, again and again; or the schema
                refuses a trial that it once took.
        """
        reason = ""
        for _ in range(_MOST_INVALID):
            trial, is_resumed = self._next()
            if trial is None:
                return None
            self._trials[trial.number] = trial
            self._began_s[trial.number] = time.monotonic()
            self._stored_seconds[trial.number] = float(trial.user_attrs.get("seconds", 0.0))
            try:
                overrides = overrides_of(self._space, trial)
                config = parse(
                    apply_overrides(self.settings.tree, overrides), source=self._space.source
                )
            except ConfigError as error:
                reason = str(error)
                if OVERRIDES in trial.user_attrs:  # it has runs and a record in MLflow
                    raise ConfigError(
                        f"trial {trial.number}, which has begun, is no run to this version: "
                        f"{reason}; go on with the version that began it, or begin another search "
                        f"with --warm-start {self.name}"
                    ) from error
                self.fail(trial.number, reason)
                continue
            same = None if is_resumed else self._same_as(overrides)
            trial.set_user_attr(OVERRIDES, dict(overrides))
            self._epochs[trial.number] = config.train.epochs
            proposal = self._proposal(trial.number, overrides, config)
            return replace(proposal, is_resumed=is_resumed, same_as=same)
        raise ConfigError(f"{_MOST_INVALID} proposals in a row are no runs: {reason}")

    def proposal_of(self, number: int) -> Proposal:
        """What was proposed once."""
        overrides = list(self.trial(number).user_attrs[OVERRIDES].items())
        config = parse(apply_overrides(self.settings.tree, overrides), source=f"trial {number}")
        return self._proposal(number, overrides, config)

    def config_of(self, number: int) -> RunConfig:
        """Of a trial's first run."""
        return self.proposal_of(number).configs[0]

    def is_bad(self, number: int, epoch: int, value: float) -> bool:
        """Write down a value on the way; whether the trial should be stopped early.

        With several objectives Optuna keeps no values on the way.
        """
        trial = self._trials[number]
        self._note(number, epochs=epoch)
        if len(self.settings.objectives) > 1:
            return False
        before = self.trial(number)
        if before.user_attrs.get(_BAD_AFTER) == epoch:  # asked again after a kill: pruners forget
            return True
        if epoch not in before.intermediate_values:
            trial.report(value, epoch)
        is_bad = bool(trial.should_prune())
        if is_bad:
            trial.set_user_attr(_BAD_AFTER, epoch)
        return is_bad

    def put_back(self, number: int) -> None:
        """Propose a trial once more, to go on where its runs are."""
        self._note(number)
        del self._trials[number]
        self._unfinished.append(self.trial(number))

    def note_time(self, number: int) -> None:
        """Write down how long a trial has taken so far."""
        if number in self._trials:
            self._note(number)

    @property
    def is_measured(self) -> bool:
        """Whether any trial was ever evaluated by all objectives."""
        return bool(self.study.user_attrs.get(_MEASURED))

    @property
    def is_begun(self) -> bool:
        """Whether all that comes before its first trial was done."""
        return bool(self.study.user_attrs.get(_BEGUN))

    def note_begun(self) -> None:
        """The first trial may come."""
        self.study.set_user_attr(_BEGUN, True)

    def note_measured(self) -> None:
        """Once is enough."""
        if not self.is_measured:
            self.study.set_user_attr(_MEASURED, True)

    def finish(self, number: int, per_run: Sequence[Sequence[float]], **facts: Any) -> None:
        """Write down that a trial is complete; its values are `means_of` its runs.

        Args:
            number: Of the trial.
            per_run: Of each seed's run the last value of each objective.
            facts: More that is kept.
        """
        if len(per_run) > 1:
            facts["repeats"] = [list(values) for values in per_run]
        self._note(number, reason="", **facts)  # a call that was killed may have left one
        curve = self.trial(number).intermediate_values
        if len(self.settings.objectives) == 1 and self.epochs_of(number) not in curve:
            self._trials[number].report(per_run[0][0], self.epochs_of(number))
        self._tell(number, means_of(per_run))

    def finish_as(self, number: int, earlier: FrozenTrial, reason: str) -> None:
        """Write down that a trial has the values of one that had its settings and seeds."""
        self._note(number, **{SAME_AS: earlier.number, "reason": reason})
        self._tell(number, earlier.values)

    def stop(self, number: int, reason: str, **facts: Any) -> None:
        """Write down that a trial was stopped early; its last value on the way stays."""
        self._note(number, reason=reason, **facts)
        self._tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str, **facts: Any) -> None:
        """Write down that a trial came to nothing, and why."""
        self._note(number, reason=reason, **facts)
        self._tell(number, state=TrialState.FAIL)

    @property
    def owed(self) -> list[int]:
        """Trials whose end MLflow was not there to hear."""
        return list(self.study.user_attrs.get(_OWED, []))

    def note_owed(self, number: int, is_owed: bool) -> None:
        """Remember whether the end of a trial is owed to MLflow."""
        if is_owed != (number in self.owed):
            others = [owed for owed in self.owed if owed != number]
            self.study.set_user_attr(_OWED, sorted([*others, number]) if is_owed else others)

    def trial(self, number: int) -> FrozenTrial:
        """As the database has it."""
        return self.study.get_trials(deepcopy=False)[number]

    def own_trials(self) -> list[FrozenTrial]:
        """Those run here, whatever became of them."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if _is_own(trial)]

    def as_json(self) -> dict[str, Any]:
        """What was asked and what came of it, the learning curves too, for other programs."""
        return {
            "search": self.name,
            "settings": self.settings.model_dump(mode="json"),
            "trials": [
                {
                    "number": trial.number,
                    "state": trial.state.name,
                    "params": trial.params,
                    "values": trial.values,
                    "curve": {str(k): v for k, v in sorted(trial.intermediate_values.items())},
                    **trial.user_attrs,
                }
                for trial in self.study.get_trials(deepcopy=False)
            ],
        }

    def spent_seconds(self) -> float:
        """Of all trials run here, added up."""
        return math.fsum(trial.user_attrs.get("seconds", 0.0) for trial in self.own_trials())

    def _proposal(
        self, number: int, overrides: Sequence[tuple[str, Any]], config: RunConfig
    ) -> Proposal:
        seeds = self.settings.seeds
        return Proposal(
            number=number,
            settings=dict(overrides),
            configs=[config.model_copy(update={"seed": seed}) for seed in seeds],
            run_names=[run_name(self.name, self.settings, number, seed) for seed in seeds],
        )

    def _same_as(self, overrides: Sequence[tuple[str, Any]]) -> int | None:
        wanted = json.loads(json.dumps(dict(overrides)))  # as the database has it
        return next(
            (
                trial.number
                for trial in self.own_trials()
                if trial.state == TrialState.COMPLETE and trial.user_attrs.get(OVERRIDES) == wanted
            ),
            None,
        )

    def _next(self) -> tuple[Trial | None, bool]:
        if self._unfinished:
            frozen = self._unfinished.pop(0)
            self.study.sampler = make_sampler(self.settings, self._shape, frozen.number)
            return Trial(self.study, frozen._trial_id), True
        begun = [t for t in self.own_trials() if t.state != TrialState.WAITING]
        if len(begun) >= self.settings.budget.trials or self._is_grid_done(begun):
            return None, False
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = make_sampler(self.settings, self._shape, number)
        return self.study.ask(), False

    def _is_grid_done(self, begun: Sequence[FrozenTrial]) -> bool:
        """The first trial, which was put there, is no point of it."""
        points = sum("fixed_params" not in trial.system_attrs for trial in begun)
        is_grid = self.settings.sampler == "grid"
        return is_grid and points >= grid_size(self.settings, self._shape)

    def _tell(self, number: int, *values: Any, **state: Any) -> None:
        self.study.tell(self._trials[number], *values, **state)
        del self._trials[number]

    def _note(self, number: int, **facts: Any) -> None:
        trial = self._trials[number]
        seconds = self._stored_seconds[number] + time.monotonic() - self._began_s[number]
        for key, value in {"seconds": round(seconds, 1), **facts}.items():
            trial.set_user_attr(key, value)


def usual_config(settings: SearchSettings, space: Space) -> RunConfig:
    """The recipe as it stands, or the nearest to it in the space."""
    recipe = parse(settings.tree, source=settings.recipe)
    usual = FixedTrial(defaults_of(space, recipe))
    return parse(apply_overrides(settings.tree, overrides_of(space, usual)), source=space.source)


def run_name(search: str, settings: SearchSettings, number: int, seed: int) -> str:
    """Of a trial's run, on storage and in MLflow."""
    name = f"{search}-{number:04d}"
    return name if settings.repeats == 1 else f"{name}-seed{seed}"


def create_search(storage: RDBStorage, name: str, settings: SearchSettings) -> SearchRecord:
    """Begin a search.

    Raises:
        ConfigError: There is one of this name, or no run could have it.
    """
    config = parse(settings.tree, source=settings.recipe)
    longest = f"{name}-{'0' * 6}-seed{max(settings.seeds)}"
    run_location(config, longest)
    _clear_away(storage, name)
    try:
        study = optuna.create_study(
            storage=storage, study_name=name, directions=_directions(settings)
        )
    except optuna.exceptions.DuplicatedStudyError:
        raise ConfigError(
            f"search {name}: is there already; --resume {name} goes on with it, --name begins "
            "another"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(settings.objectives))
    study.set_user_attr(_SETTINGS, settings.model_dump(mode="json"))
    return SearchRecord(study, settings, storage)


def open_search(storage: RDBStorage, name: str) -> SearchRecord:
    """Find a search.

    Raises:
        ConfigError: There is none of this name, or it is no search of ours.
    """
    names = optuna.get_all_study_names(storage)
    if name not in names:
        known = ", ".join(names) or "none"
        raise ConfigError(f"search {name}: is not in the database, which has {known}")
    study = optuna.load_study(storage=storage, study_name=name)
    stored = study.user_attrs.get(_SETTINGS)
    if stored is None:
        raise ConfigError(f"search {name}: was not made by mono3d tune")
    settings = read_settings(stored, source=f"search {name}")
    return SearchRecord(study, settings, storage)


def _clear_away(storage: RDBStorage, name: str) -> None:
    """What a process left that was killed while it created a search."""
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(storage=storage, study_name=name)
        if not study.user_attrs and not study.get_trials(deepcopy=False):
            optuna.delete_study(study_name=name, storage=storage)


def means_of(per_run: Sequence[Sequence[float]]) -> list[float]:
    """Of each objective, the mean over a trial's runs."""
    return [statistics.fmean(column) for column in zip(*per_run, strict=True)]


def is_finite(values: Mapping[str, float], metrics: Sequence[str]) -> bool:
    """Whether all of the metrics are there, and numbers."""
    return all(math.isfinite(values.get(metric, math.nan)) for metric in metrics)


def _is_own(trial: FrozenTrial) -> bool:
    return "imported" not in trial.user_attrs


def _directions(settings: SearchSettings) -> list[StudyDirection]:
    named = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
    return [named[mode] for mode in settings.objectives.values()]
