"""Does a loss of whole boxes pay for itself, which one, how heavy, and from when on? 100 trials.

For detectors that answer in images, model.kind=dense and center, in recipes of more than four
epochs; with many more, such as KITTI's 140, let the warm-up range over what is about a quarter of
them. The ranges hold the shipped defaults, GCIoU without each of its corrections, and boxes that
are compared at the true depth. They leave out a weight of 0, which is `none` by another name.
"""

from optuna import Trial

METRIC, MODE = "val/kitti_Car_3d_moderate", "max"

KINDS = ("none", "iou", "log_iou", "giou", "diou", "rdiou", "gciou")


def space(trial: Trial) -> dict[str, object]:
    """A kind, how it comes in, and GCIoU's own settings."""
    kind = trial.suggest_categorical("iou_loss.kind", KINDS)
    if kind == "none":
        return {}
    trial.suggest_float("iou_loss.weight", 0.02, 2.0, log=True)
    trial.suggest_float("iou_loss.warmup_epochs", 0.0, 4.0, step=0.5)
    trial.suggest_float("iou_loss.ramp_epochs", 0.0, 2.0, step=0.5)
    trial.suggest_categorical("iou_loss.depth_aligned", [False, True])
    if kind == "gciou":
        trial.suggest_categorical("iou_loss.alpha", [2.0, 1.0, 4.0, None])
        trial.suggest_categorical("iou_loss.yaw_penalty", ["exp", "tan", "none"])
        trial.suggest_categorical("iou_loss.rescale", ["normalised", "raw", "off"])
        trial.suggest_float("iou_loss.min_iou", 1e-3, 1e-1, log=True)
    return {}
