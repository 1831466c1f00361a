"""Does mining of depth samples pay for itself, which kind, and how sharp may it be? 90 trials.

Define by run, see `optim.py`. The ranges hold the shipped defaults, no mining at one end where a
kind has such a setting, and what starves a hard minority (GMM's sharpness 2 and floor 0.1 on the
toy of tests/objectives/mining/test_gmm_training.py): a search on real data may answer otherwise.
With model.kind=center, `lss` does nothing and draws like `none`.
"""

from optuna import Trial

METRIC, MODE = "val/centers_depth_abs_rel", "min"

KINDS = ("none", "gmm", "ohem", "easy_topk", "focal", "ghm", "pisa", "range_cut", "lss")


def space(trial: Trial) -> dict[str, object]:
    """A kind, its own settings, and when it comes in."""
    kind = trial.suggest_categorical("mining.kind", KINDS)
    match kind:
        case "none":
            return {}
        case "gmm":
            _gmm(trial)
        case "ohem" | "easy_topk":
            trial.suggest_float("mining.share", 0.3, 1.0)
        case "focal":
            trial.suggest_float("mining.gamma", 0.0, 4.0)
        case "ghm":
            trial.suggest_float("mining.mu", 0.005, 0.5, log=True)
            trial.suggest_int("mining.num_bins", 5, 30)
            trial.suggest_float("mining.momentum", 0.0, 0.95)
        case "pisa":
            trial.suggest_float("mining.power", 0.5, 3.0)
            trial.suggest_float("mining.bias", 0.0, 0.5)
        case "range_cut":
            trial.suggest_float("mining.max_m", 30.0, 80.0)
            trial.suggest_categorical("mining.softness_m", [0.0, 1.0, 5.0, 10.0])
        case "lss":
            trial.suggest_float("mining.temperature", 0.3, 10.0, log=True)
    trial.suggest_float("mining.warmup_epochs", 0.0, 3.0, step=0.5)
    trial.suggest_float("mining.ramp_epochs", 0.0, 2.0, step=0.5)
    return {}


def _gmm(trial: Trial) -> None:
    """Each of its factors, which can be switched off alone."""
    trial.suggest_categorical("mining.metric", ["ratio", "exp_rel", "exp_abs", "linear"])
    trial.suggest_float("mining.sharpness", 1.0, 8.0, log=True)
    trial.suggest_float("mining.floor", 0.05, 1.0, log=True)
    trial.suggest_float("mining.gradient_exponent", 0.0, 0.5)
    trial.suggest_float("mining.keep_per_object", 0.4, 1.0)
