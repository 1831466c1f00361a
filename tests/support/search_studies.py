"""Searches as Optuna stores them, made up: for what is shown of a search."""

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

ERROR, ACCURACY = "val/centers_depth_abs_rel", "val/nuscenes_map"
SHARE = FloatDistribution(0.0, 1.0)
SCALES: dict[str, BaseDistribution] = {
    "mining.kind": CategoricalDistribution(["none", "gmm", "ohem"]),
    "mining.sharpness": FloatDistribution(1.0, 8.0, log=True),
    "mining.warmup_epochs": IntDistribution(0, 3),
    "mining.share": SHARE,
}


def trial(
    params: Mapping[str, Any],
    *values: float,
    scales: Mapping[str, BaseDistribution] | None = None,
    state: TrialState = TrialState.COMPLETE,
    reported: Mapping[int, float] | None = None,
    **facts: Any,
) -> FrozenTrial:
    """A trial; settings that are not of `SCALES` are shares unless `scales` says otherwise."""
    known = SCALES | dict(scales or {})
    return create_trial(
        params=dict(params),
        distributions={name: known.get(name, SHARE) for name in params},
        values=values or None,
        state=state,
        intermediate_values=dict(reported or {}),
        user_attrs=facts,
    )


def study_of(
    trials: Sequence[FrozenTrial],
    *,
    modes: Sequence[str] = ("minimize",),
    metrics: Sequence[str] | None = None,
) -> optuna.Study:
    """A study in memory of these trials."""
    study = optuna.create_study(directions=list(modes))
    study.add_trials(trials)
    if metrics is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(metrics))
    return study


def mining_study() -> optuna.Study:
    """Kinds with settings of their own; trials of every state; sharpness matters, warm-up not."""
    trials = [
        trial(
            {"mining.kind": "gmm", "mining.sharpness": 2.0, "mining.warmup_epochs": 1},
            0.140,
            reported={1: 0.19, 2: 0.140},
            is_default=True,
            seconds=300.0,
            run="s-0000",
        ),
        trial({"mining.kind": "none"}, 0.150, imported="search before, trial 7"),
    ]
    for place in range(24):
        kind = ("gmm", "gmm", "ohem", "none")[place % 4]
        params: dict[str, Any] = {"mining.kind": kind}
        value = {"gmm": 0.130, "ohem": 0.144, "none": 0.152}[kind]
        if kind == "gmm":
            params["mining.sharpness"] = 1.0 + 7.0 * ((place * 5) % 24) / 23
            value += 0.01 * abs(math.log(params["mining.sharpness"] / 4.0))
        if kind != "none":
            params["mining.warmup_epochs"] = place * 7 % 4
        if kind == "ohem":
            params["mining.share"] = place / 24
        reported = {1: value + 0.05, 2: value + 0.01, 3: value}
        name = f"s-{place + 2:04d}"
        facts = {"seconds": 100.0 + place, "run": name, "checkpoint": f"s3://bucket/{name}"}
        trials.append(trial(params, value, reported=reported, epochs=3, **facts))
    given_up = {"mining.kind": "ohem", "mining.share": 0.9, "mining.warmup_epochs": 0}
    for place in range(3):
        reason = f"worse than others after epoch {place + 1}"
        trials.append(
            trial(
                given_up,
                state=TrialState.PRUNED,
                reported={1: 0.2 + 0.01 * place},
                reason=reason,
                seconds=50.0,
            )
        )
    for place in range(2):
        reason = f"worker died | out of memory ({place + 20}.5 GB)"
        trials.append(trial({"mining.kind": "none"}, state=TrialState.FAIL, reason=reason))
    trials.append(trial({"mining.kind": "none"}, state=TrialState.RUNNING, reported={1: 0.2}))
    return study_of(trials, metrics=[ERROR])


def trade_off_study(count: int = 20) -> optuna.Study:
    """Depth error against accuracy; a larger weight is good for one and bad for the other."""
    trials = [
        trial(
            {"loss.depth": place / count, "optim.decay": (place * 7 % count) / count},
            0.2 - 0.05 * place / count,
            0.3 - 0.1 * place / count - (0.05 if place % 3 else 0.0),
            is_default=place == 1,
            seconds=10.0,
        )
        for place in range(count)
    ]
    return study_of(trials, modes=("minimize", "maximize"), metrics=(ERROR, ACCURACY))


def _choices(*choices: Any) -> CategoricalDistribution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CategoricalDistribution(choices)


@cache
def awkward_studies() -> dict[str, optuna.Study]:
    """Name → a study that breaks careless pictures."""
    mixed = {"a": _choices(None, "None"), "b": _choices(True, False, 2.5, "x", None)}
    many = {f"model.backbone.a_long_section.setting_number_{n}": n for n in range(40)}
    log = {"lr": FloatDistribution(1e-5, 1e-1, log=True), "n": IntDistribution(1, 64, log=True)}
    wide = {"a": FloatDistribution(1.0, 100.0)}
    inf, odd = math.inf, ("$x$ $", "<b>\\|`_*")
    both = ("minimize", "maximize")
    return {
        "no trials": study_of([]),
        "nothing finished": study_of(
            [trial({"a": 0.5}, state=TrialState.FAIL)] * 2
            + [trial({"a": 0.5}, state=TrialState.PRUNED, reported={1: math.nan, 2: 0.3})]
        ),
        "one trial": study_of([trial({"a": 0.5}, 1.0)]),
        "all equal": study_of([trial({"a": n / 12}, 1.0) for n in range(12)]),
        "nothing varies": study_of([trial({"a": 0.5}, float(n)) for n in range(12)]),
        "no settings": study_of([trial({}, float(n)) for n in range(9)]),
        "one setting": study_of([trial({"a": n / 12}, float(n)) for n in range(12)]),
        "mixed choices": study_of(
            [
                trial(
                    {"a": (None, "None")[n % 2], "b": (True, False, 2.5, "x", None)[n % 5]},
                    float(n),
                    scales=mixed,
                )
                for n in range(15)
            ]
        ),
        "not finite": study_of([trial({"a": n / 12}, (inf, -inf, n)[n % 3]) for n in range(12)]),
        "never finite": study_of([trial({"a": n / 12}, inf) for n in range(12)]),
        "one far off": study_of([trial({"a": n / 20}, 1e9 if n == 3 else n) for n in range(20)]),
        "range changed": study_of(
            [trial({"a": n / 20}, float(n)) for n in range(9)]
            + [trial({"a": 2.0 + n}, float(n), scales=wide) for n in range(9)]
        ),
        "kind changed": study_of(
            [trial({"a": n / 20}, float(n)) for n in range(9)]
            + [trial({"a": "auto"}, float(n), scales={"a": _choices("auto")}) for n in range(9)]
        ),
        "40 settings": study_of(
            [
                trial({name: (k * 31 + n * 17) % 97 / 97 for name, k in many.items()}, n % 7)
                for n in range(20)
            ]
        ),
        "logarithms": study_of(
            [trial({"lr": 10 ** -(1 + n / 4), "n": 1 + 5 * n}, n, scales=log) for n in range(12)]
        ),
        "odd words": study_of(
            [
                trial({"$a$": odd[n % 2]}, n, scales={"$a$": _choices(*odd)})
                for n in range(10)
            ]
        ),
        "two objectives, no trials": study_of([], modes=both),
        "two objectives, one trial": study_of([trial({"a": 0.5}, 1.0, 2.0)], modes=both),
        "two objectives, all equal": study_of(
            [trial({"a": n / 12}, 1.0, 2.0) for n in range(12)], modes=both
        ),
        "two objectives, not finite": study_of(
            [trial({"a": n / 12}, n if n % 4 else -inf, n * n % 7) for n in range(12)], modes=both
        ),
        "five objectives": study_of(
            [trial({"a": n / 12}, n, n * n % 7, n % 3, 1.0, -n) for n in range(12)],
            modes=("minimize",) * 5,
        ),
    }  # fmt: skip
