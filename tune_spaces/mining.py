"""Does mining of depth samples pay for itself, and how sharp may it be? 40 trials.

Define by run, see `optim.py`. The ranges hold the shipped defaults and what starves a hard minority
(sharpness 2, floor 0.1 on the toy of tests/objectives/mining/test_gmm_training.py): a search on
real data may answer otherwise.
"""

from optuna import Trial

METRIC, MODE = "val/centers_depth_abs_rel", "min"


def space(trial: Trial) -> dict[str, object]:
    """No mining, or GMM with each of its factors, which can be switched off alone."""
    if trial.suggest_categorical("mining.kind", ["none", "gmm"]) == "gmm":
        trial.suggest_categorical("mining.metric", ["ratio", "exp_rel", "exp_abs", "linear"])
        trial.suggest_float("mining.sharpness", 1.0, 8.0, log=True)
        trial.suggest_float("mining.floor", 0.05, 1.0, log=True)
        trial.suggest_float("mining.gradient_exponent", 0.0, 0.5)
        trial.suggest_float("mining.keep_per_object", 0.4, 1.0)
        trial.suggest_float("mining.warmup_epochs", 0.0, 3.0, step=0.5)
        trial.suggest_float("mining.ramp_epochs", 0.0, 2.0, step=0.5)
    return {}
