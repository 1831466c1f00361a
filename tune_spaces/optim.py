"""Which learning rate, decay and schedule suit a recipe? 30 trials; the first search to make.

Define by run, with Optuna's own trial. Names of suggestions are config paths; what `space` returns
is the same for every trial.
"""

from optuna import Trial

METRIC, MODE = "val/nuscenes_nds", "max"


def space(trial: Trial) -> dict[str, object]:
    """AdamW under either schedule."""
    trial.suggest_float("optim.lr", 5e-5, 2e-3, log=True)
    trial.suggest_float("optim.weight_decay", 1e-4, 1e-1, log=True)
    trial.suggest_float("train.max_grad_norm", 5.0, 100.0, log=True)
    trial.suggest_categorical("train.ema_decay", [0.99, 0.999, 0.9998])
    if trial.suggest_categorical("schedule.kind", ["cosine", "step"]) == "cosine":
        trial.suggest_float("schedule.final_share", 1e-3, 1e-1, log=True)
    else:
        trial.suggest_float("schedule.factor", 0.05, 0.5, log=True)
    trial.suggest_int("schedule.warmup_steps", 0, 1000, step=100)
    return {"optim.kind": "adamw"}
