"""Does a teacher pay for itself, which distiller, and how much may its losses weigh? 80 trials.

By default students alone and ADD are compared, and the recipe says who teaches: begin with one of
kind add, whose teacher, heads and responses then hold for all trials of that kind. Another kind
clears the recipe's section, so its teachers come from the environment, or from the constants below.
On the grid, in recipes of more than two epochs, all four kinds can be compared:

    export MONO3D_DISTILLERS=none,add,cmkd,monotakd
    export MONO3D_LIDAR_TEACHER=runs/kitti_lidar_teacher
    export MONO3D_DEPTH_TEACHER=runs/kitti_add_bev_teacher
    mono3d tune kitti_add_bev --space tune_spaces/distillation.py

A search that goes on needs the same of these. What is taught on the grid is precision rather than
depth: give `--objective` a metric of the benchmark there. The ranges hold the shipped defaults and
the authors' factors. They leave out losses that are switched off, which the studies `add` and
`bev_losses` have, MonoTAKD's direct loss, and which teacher teaches.
"""

import os

from optuna import Trial

METRIC, MODE = "val/centers_depth_abs_rel", "min"

KINDS = os.environ.get("MONO3D_DISTILLERS", "none,add").split(",")
# A detector of the student's family that is told depth: ADD's teacher, MonoTAKD's assistant.
DEPTH_TEACHER = os.environ.get("MONO3D_DEPTH_TEACHER")
# A detector with model.kind=lidar: the teacher of CMKD and MonoTAKD.
LIDAR_TEACHER = os.environ.get("MONO3D_LIDAR_TEACHER")


def space(trial: Trial) -> dict[str, object]:
    """A kind, its own settings, and what it needs."""
    match trial.suggest_categorical("distillation.kind", KINDS):
        case "add":
            _add(trial)
            return _given({"distillation.teacher": DEPTH_TEACHER})
        case "cmkd":
            _cmkd(trial)
            needed = {"model.residual_stream": False, "distillation.teacher": LIDAR_TEACHER}
            return _given(needed)
        case "monotakd":
            _monotakd(trial)
            needed = {
                "model.adaptation_blocks": 0,
                "model.residual_stream": True,
                "distillation.teacher": LIDAR_TEACHER,
                "distillation.assistant": DEPTH_TEACHER,
            }
            return _given(needed)
    return {}


def _given(settings: dict[str, object]) -> dict[str, object]:
    """Those that are said here; the recipe says the rest."""
    return {path: value for path, value in settings.items() if value is not None}


def _add(trial: Trial) -> None:
    for loss in ("feature", "object", "response"):
        trial.suggest_float(f"distillation.{loss}", 0.1, 10.0, log=True)
    trial.suggest_float("distillation.background", 0.0, 1.0)
    trial.suggest_categorical("distillation.encoding", ["point", "ray", "none"])
    trial.suggest_categorical("distillation.self_attention", [True, False])
    trial.suggest_categorical("distillation.cross_attention", [True, False])


def _cmkd(trial: Trial) -> None:
    trial.suggest_int("model.adaptation_blocks", 0, 4)
    trial.suggest_float("distillation.feature", 4.0, 64.0, log=True)
    _answers(trial)
    trial.suggest_float("distillation.empty_weight", 0.05, 1.0, log=True)
    trial.suggest_float("distillation.response_from_epoch", 0.0, 2.0, step=0.5)


def _monotakd(trial: Trial) -> None:
    trial.suggest_float("distillation.intra", 0.1, 10.0, log=True)
    trial.suggest_float("distillation.residual", 0.1, 10.0, log=True)
    trial.suggest_categorical("distillation.normalisation", ["standardise", "range"])
    trial.suggest_float("distillation.residual_threshold", 0.0, 0.9)
    if DEPTH_TEACHER is None:  # does nothing where the recipe names an assistant
        trial.suggest_float("distillation.assistant_weight", 0.1, 10.0, log=True)
    _answers(trial)


def _answers(trial: Trial) -> None:
    """Of the LiDAR teacher, which CMKD and MonoTAKD learn alike."""
    trial.suggest_float("distillation.classes", 0.1, 4.0, log=True)
    trial.suggest_float("distillation.box", 0.5, 8.0, log=True)
    trial.suggest_float("distillation.direction", 0.05, 1.0, log=True)
    trial.suggest_float("distillation.class_threshold", 0.05, 0.5)
    trial.suggest_float("distillation.box_threshold", 0.05, 0.5)
