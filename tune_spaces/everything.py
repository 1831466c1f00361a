"""Which learning rate, mining, distillation and loss of whole boxes suit each other? 400 trials.

The four spaces beside this file in one, so their notes hold: on the recipe's teacher, on detectors
that answer in images, on recipes of more than four epochs. A search as wide finds what is good
together; which part of it does so, a study of its best trial without each part tells.
"""

from pathlib import Path

from optuna import Trial

from mono3d.search.space import load_space

METRIC, MODE = "val/nuscenes_nds", "max"

PARTS = [
    load_space(str(Path(__file__).with_name(f"{name}.py")))
    for name in ("optim", "mining", "distillation", "iou_loss")
]


def space(trial: Trial) -> dict[str, object]:
    """One part after the other."""
    return {path: value for part in PARTS for path, value in part.draw(trial).items()}
