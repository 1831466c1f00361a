"""The trials of a search as rows, the best ones first: what tables and answers are made of."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any, Literal

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mono3d.comparison.study_metrics import in_words
from mono3d.search.record import SAME_AS

State = Literal[
    "finished", "stopped early", "failed", "running", "waiting", "imported", "tried before"
]
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
_LEAST_FOR_SPREAD = 2
_ORDER: tuple[State, ...] = (
    "finished",
    "tried before",
    "stopped early",
    "failed",
    "running",
    "waiting",
)


@dataclass(frozen=True)
class Goal:
    """What is searched for."""

    metric: str
    less_is_better: bool

    @property
    def words(self) -> str:
        """The metric's name for readers."""
        return in_words(self.metric)

    def loss(self, value: float) -> float:
        """The value as something of which less is better; what is no number is worse than all."""
        if not math.isfinite(value):
            return math.inf
        return value if self.less_is_better else -value


@dataclass(frozen=True, kw_only=True)
class RankedTrial:
    """One trial of a search."""

    number: int
    rank: int | None
    """Among the finished and the imported ones: 1 is the best, equal values share a rank. With
    several objectives 1 for each that none beats in all of them; None for all others."""
    state: State
    values: tuple[float, ...]
    """One an objective; of a trial without a result what it last reported, or empty."""
    repeats: tuple[tuple[float, ...], ...]
    """Each seed's values, of which `values` are the mean; empty with one seed."""
    params: Mapping[str, Any]
    """All settings that the search drew."""
    changed: tuple[str, ...]
    """`path=value`, of those that differ from the recipe's own; all where these were not tried."""
    is_default: bool
    """Whether it is the recipe as it stands."""
    reported: Mapping[int, float]
    """Epoch → value of the objective on the way; empty with several objectives."""
    seconds: float | None
    epochs: int | None
    reason: str | None
    """Why it failed or was stopped, or where an imported one came from."""
    run: str | None
    checkpoint: str | None

    @property
    def spread(self) -> tuple[float, ...] | None:
        """Sample standard deviation of each value over the seeds; None with one of them."""
        if len(self.repeats) < _LEAST_FOR_SPREAD:
            return None
        return tuple(stdev(column) for column in zip(*self.repeats, strict=True))

    @property
    def is_done(self) -> bool:
        """Whether it has a result, which may be infinite."""
        return self.state in ("finished", "imported")

    @property
    def is_usable(self) -> bool:
        """Whether it has a result, and one that can be drawn."""
        return self.is_done and all(map(math.isfinite, self.values))


def goals_of(study: Study) -> tuple[Goal, ...]:
    """What a study searches for; without names of metrics they are numbered."""
    directions = study.directions
    names = study.metric_names or [
        "objective" if len(directions) == 1 else f"objective {number}"
        for number in range(1, len(directions) + 1)
    ]
    return tuple(
        Goal(name, direction == StudyDirection.MINIMIZE)
        for name, direction in zip(names, directions, strict=True)
    )


def ranked(study: Study) -> list[RankedTrial]:
    """All trials: with a result (the best first), stopped early, failed, running, waiting.

    Several objectives: those that none beats in all of them come first; among equals, and among
    the others, the first objective counts.
    """
    goals = goals_of(study)
    trials = study.get_trials(deepcopy=False)
    own: Mapping[str, Any] = next(
        (trial.params for trial in trials if trial.user_attrs.get("is_default")), {}
    )
    done = [trial for trial in trials if has_own_result(trial)]
    losses = {t.number: _losses(goals, map(float, t.values)) for t in done}
    ranks = _ranks(losses) if len(goals) == 1 else _front(losses)
    rows = [_row(trial, own, ranks.get(trial.number)) for trial in trials]
    return sorted(rows, key=lambda row: _place(row, goals))


def has_own_result(trial: FrozenTrial) -> bool:
    """Whether it is complete, and no repetition of another one's settings."""
    return trial.state == TrialState.COMPLETE and SAME_AS not in trial.user_attrs


def default_of(rows: Iterable[RankedTrial]) -> RankedTrial | None:
    """The recipe's own settings, if they were tried and have a result."""
    return next((row for row in rows if row.is_default and row.is_usable), None)


def format_setting(value: object) -> str:
    """A setting's value as one writes it in an override, to four digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_value(value: float) -> str:
    """A metric's value, to four digits behind the point where it is of usual size."""
    is_usual = value == 0 or 1e-3 <= abs(value) < 1e4
    return f"{value:.4f}" if is_usual else f"{value:.4g}"


def format_duration(seconds: float | None) -> str:
    """`2 h 05 min`, `3 min 20 s` or `41 s`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def table_head(goals: Sequence[Goal]) -> list[str]:
    """Names of the columns of `table_cells`."""
    values = [f"{goal.words} {'↓' if goal.less_is_better else '↑'}" for goal in goals]
    return ["rank", "trial", "state", *values, "changed settings", "epochs", "time", "run", "note"]


def table_cells(row: RankedTrial, goals: Sequence[Goal]) -> list[str]:
    """One trial's cells, as plain text."""
    values = [_value(row, index) for index in range(len(goals))]
    if len(goals) > 1:
        rank = "Pareto" if row.rank == 1 else ""
    else:
        rank = "" if row.rank is None else str(row.rank)
    changed = ", ".join(row.changed) or ("the recipe's own" if row.is_default else "")
    epochs = "" if row.epochs is None else str(row.epochs)
    note = " ".join((row.reason or "").split())
    return [
        *(rank, str(row.number), row.state, *values, changed, epochs),
        *(format_duration(row.seconds), row.run or "", note),
    ]


def _value(row: RankedTrial, index: int) -> str:
    if index >= len(row.values):
        return ""
    text = format_value(row.values[index])
    if row.spread is not None:
        digits = ".4f" if "." in text and "e" not in text else ".2g"
        text += f" ± {row.spread[index]:{digits}} ({len(row.repeats)} seeds)"
    return text if row.is_done else f"({text})"


def _row(trial: FrozenTrial, own: Mapping[str, Any], rank: int | None) -> RankedTrial:
    about = trial.user_attrs
    reported = {e: float(v) for e, v in sorted(trial.intermediate_values.items())}
    state = _STATES[trial.state]
    imported = about.get("imported")
    if imported and state == "finished":
        state = "imported"
    elif state == "finished" and not has_own_result(trial):
        state = "tried before"
    if trial.state == TrialState.COMPLETE:
        values = tuple(map(float, trial.values))
    else:
        values = (reported[max(reported)],) if reported else ()
    seeds = tuple(tuple(map(float, seed)) for seed in about.get("repeats") or ())
    are_known = all(math.isfinite(value) for seed in seeds for value in seed)
    return RankedTrial(
        number=trial.number,
        rank=rank,
        state=state,
        values=values,
        repeats=seeds if are_known else (),
        params=trial.params,
        changed=tuple(
            f"{path}={format_setting(value)}"
            for path, value in trial.params.items()
            if path not in own or repr(own[path]) != repr(value)
        ),
        is_default=bool(about.get("is_default")),
        reported=reported,
        seconds=None if about.get("seconds") is None else float(about["seconds"]),
        epochs=about.get("epochs", max(reported, default=None)),
        reason=f"from {imported}" if imported else about.get("reason"),
        run=about.get("run"),
        checkpoint=about.get("checkpoint"),
    )


def _losses(goals: Sequence[Goal], values: Iterable[float]) -> tuple[float, ...]:
    return tuple(goal.loss(value) for goal, value in zip(goals, values, strict=True))


def _ranks(losses: Mapping[int, tuple[float, ...]]) -> dict[int, int]:
    """Trial → rank, for what is finite; equal values share the better rank."""
    finite = {trial: loss for trial, (loss,) in losses.items() if math.isfinite(loss)}
    ordered = sorted(finite.values())
    return {trial: ordered.index(loss) + 1 for trial, loss in finite.items()}


def _front(losses: Mapping[int, tuple[float, ...]]) -> dict[int, int]:
    """Rank 1 for the trials that none is as good as in all objectives and better in one."""
    finite = {trial: loss for trial, loss in losses.items() if all(map(math.isfinite, loss))}

    def is_beaten(mine: tuple[float, ...]) -> bool:
        return any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for other in finite.values()
        )

    return {trial: 1 for trial, loss in finite.items() if not is_beaten(loss)}


def _place(row: RankedTrial, goals: Sequence[Goal]) -> tuple[float | int, ...]:
    state: State = "finished" if row.is_done else row.state
    losses = [goal.loss(value) for goal, value in zip(goals, row.values, strict=False)]
    is_front = row.rank == 1
    is_bad = not row.is_usable
    first = losses[0] if losses else math.inf
    return (_ORDER.index(state), is_bad, not is_front, first, row.number)
